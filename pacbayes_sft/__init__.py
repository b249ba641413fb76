"""A finished fine-tune in, a bound on its test risk out, and the truth beside it.

The statistics live in the package `estimators`; its public names are re-exported here.
"""

try:
    from estimators import *  # noqa: F403
    from estimators import __all__ as _statistics
except ImportError as error:
    raise ImportError(
        "the package `estimators` that was found is not the one shipped with pacbayes-sft (an "
        "unrelated `estimators` exists on the package index): uninstall it and reinstall "
        "pacbayes-sft"
    ) from error

__all__ = list(_statistics)
