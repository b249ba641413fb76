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
    "OpLaw": "pacbayes_sft.igsm",
    "Options": "pacbayes_sft.options",
    "Refinement": "pacbayes_sft.posteriors",
    "Settings": "pacbayes_sft.sft",
    "bound": "pacbayes_sft.certify",
    "emit_adapter": "pacbayes_sft.certified.emit",
    "inspect_checkpoint": "pacbayes_sft.inspection",
    "kl_term": "pacbayes_sft.terms",
    "measure_difficulty": "pacbayes_sft.difficulty",
    "model_card_section": "pacbayes_sft.report.model_card",
    "plan": "pacbayes_sft.plan",
    "plot_scan": "pacbayes_sft.scan.pictures",
    "read_config": "pacbayes_sft.scan.config_file",
    "read_table": "pacbayes_sft.data.rows",
    "resolve_base": "pacbayes_sft.models",
    "results_frame": "pacbayes_sft.results",
    "risk_term": "pacbayes_sft.terms",
    "run_demo": "pacbayes_sft.demo",
    "run_scan": "pacbayes_sft.scan.run",
    "run_sft": "pacbayes_sft.sft",
    "shift_term": "pacbayes_sft.shift",
    "update_model_card": "pacbayes_sft.report.model_card",
    "stream_two_sample": "pacbayes_sft.shift.streamed",
    "survey": "pacbayes_sft.shift.survey",
    "verify_adapter": "pacbayes_sft.certified.verify",
    "write_recipe": "pacbayes_sft.recipes",
    "write_problems": "pacbayes_sft.igsm.files",
    "Schedule": "estimators.posteriors.refined",
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
