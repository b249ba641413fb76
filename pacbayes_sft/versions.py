"""Versions of what a number was computed with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

COMPUTED_WITH = ("pacbayes-sft", "torch", "transformers", "peft", "numpy", "scipy")
TRAINED_WITH = ("torch", "transformers", "peft", "trl")


def versions(*names: str) -> dict[str, str]:
    """Return the versions of installed packages; one that runs from its source has none.

    >>> versions("torch").keys(), versions("no-such-package")
    (dict_keys(['torch']), {'no-such-package': 'not installed'})
    """
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
