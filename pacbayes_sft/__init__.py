"""A finished fine-tune in, a bound on its test risk out, and the truth beside it.

The statistics live in the package `estimators`; its public names are re-exported here, loaded
when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estimators import *  # noqa: F403

_OWN = {
    "advise_on": "pacbayes_sft.advise.run",
    "Certificate": "pacbayes_sft.certify",
    "CertificateCallback": "pacbayes_sft.callback",
    "InputError": "pacbayes_sft.errors",
    "Options": "pacbayes_sft.options",
    "Settings": "pacbayes_sft.sft",
    "break_down": "pacbayes_sft.movement",
    "bound": "pacbayes_sft.certify",
    "emit_adapter": "pacbayes_sft.certified.emit",
    "inspect_checkpoint": "pacbayes_sft.inspection",
    "kl_term": "pacbayes_sft.terms",
    "measure_difficulty": "pacbayes_sft.difficulty",
    "merge_drift": "pacbayes_sft.checkpoints.merged",
    "plan": "pacbayes_sft.plan",
    "read_table": "pacbayes_sft.data.rows",
    "risk_term": "pacbayes_sft.terms",
    "read_config": "pacbayes_sft.scan.config",
    "run_scan": "pacbayes_sft.scan.run",
    "run_sft": "pacbayes_sft.sft",
    "plot_scan": "pacbayes_sft.scan.pictures",
    "shift_term": "pacbayes_sft.shift",
    "verify_adapter": "pacbayes_sft.certified.verify",
}


def _statistics() -> Any:
    import estimators

    if not hasattr(estimators, "kl_bound"):
        raise ImportError(
            f"{estimators.__file__} is not the `estimators` shipped with pacbayes-sft (an "
            "unrelated one exists on the package index): uninstall it and reinstall pacbayes-sft"
        )
    return estimators


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    from importlib import import_module

    if name == "__all__":
        return sorted([*_OWN, *_statistics().__all__])
    if name in _OWN:
        return getattr(import_module(_OWN[name]), name)
    if not name.startswith("_") and name in _statistics().__all__:
        return getattr(_statistics(), name)
    raise AttributeError(f"module 'pacbayes_sft' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted([*_OWN, *_statistics().__all__])
