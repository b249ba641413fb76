"""The one error a user is meant to see."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and says how to mend it.

    The command line prints the message alone and exits with code 2.
    """
