"""A certificate as ``bound.json``: versioned, stable keys, nothing unlabelled."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from estimators import Estimate, Guarantee, is_vacuous, squared_distance
from estimators.display import confidence_percent, failure, rounded_down, rounded_up
from estimators.gaussian import noise_norm, typical_scale
from pacbayes_sft.atomic import replacing
from pacbayes_sft.baselines import best_of
from pacbayes_sft.certify import Certificate
from pacbayes_sft.checkpoints.record import RECORD_DIR
from pacbayes_sft.data.rows import Table
from pacbayes_sft.inputs import Inputs
from pacbayes_sft.measure import INTERVAL_DELTA
from pacbayes_sft.models import public_name
from pacbayes_sft.options import Options
from pacbayes_sft.shift import auto_warnings
from pacbayes_sft.versions import COMPUTED_WITH, versions
from pacbayes_sft.whereabouts import not_around

VERSION = 1
PAYS_FOR_ONE = "name one shift term in advance: each is a claim of its own, δ pays for one of them"


def to_record(certificate: Certificate) -> dict[str, Any]:
    """Return the JSON-ready content of ``bound.json``."""
    c, inputs, measured = certificate, certificate.inputs, certificate.measured
    return {
        "version": VERSION,
        "n": inputs.n,
        "n_train": len(set(inputs.train.units)),
        "n_prior": len(set(inputs.train.units)) - inputs.n,
        "one_row_a_unit": one_row_a_unit(inputs.certified, inputs.test),
        "delta": c.options.delta,
        "delta_ledger": c.ledger.rows(),
        "loss": c.options.loss.value,
        "predictor": "gibbs",
        "target": "test_distribution",
        "space": inputs.pair.space.value,
        "posterior": {
            "family": c.fitted.family.value,
            "reason": c.fitted.reason,
            "sigma": typical_scale(c.fitted.posterior),
            "parameters": inputs.pair.parameters,
        },
        "prior": {
            "centre": inputs.pair.prior_source,
            "sigma": c.fitted.sigma,
            "sigma_grid": list(c.options.prior_scales),
            "shape": c.options.prior_shape.value,
        },
        "squared_distance": inputs.pair.squared_distance,
        "empirical_risk": c.empirical_risk.to_dict(),
        "excess_over_prior_centre": _excess(c),
        "kl": c.kl.to_dict(),
        "tv": c.shift.tv.to_dict(),
        "shift": {"view": c.shift.view, "reason": c.shift.reason, "rows": c.shift.rows},
        "terms": {
            "empirical_risk": c.terms.empirical_risk,
            "generalization": c.terms.generalization,
            "extrapolation": c.terms.extrapolation,
            "epsilon": c.terms.epsilon,
        },
        "bound": c.bound.to_dict() | {"theorem": c.primary},
        "bounds": {
            name: _bound(test, train, c.leaves.of(name)) for name, (test, train) in c.bounds.items()
        },
        "bounds_by_shift": _by_shift(c),
        "measured": {
            "test_risk": _risk(measured.test_risk, "gibbs", "test_distribution"),
            "test_risk_finetuned": _risk(
                measured.test_risk_finetuned, "finished", "test_distribution"
            ),
            "train_risk_finetuned": _risk(
                measured.train_risk_finetuned, "finished", "the certified rows"
            ),
            "train_distribution_risk": _risk(
                measured.train_distribution_risk, "gibbs", "train_distribution"
            ),
            "generalization_gap": _gap(measured.generalization_gap),
            "extrapolation_gap": _gap(measured.extrapolation_gap),
        },
        "baselines": _baselines(c),
        "drift": drift_of(c),
        "assumptions": list(c.bound.assumptions),
        "warnings": warnings_of(certificate),
        "provenance": _provenance(certificate),
    }


def one_row_a_unit(*tables: Table) -> bool:
    """Whether a mean over units is one over rows: what "of the examples" counts."""
    return all(len(set(table.units)) == len(table.rows) for table in tables)


def _by_shift(certificate: Certificate) -> dict[str, Any] | None:
    """The least train bound carried over by each shift term that knows the predictor."""
    from pacbayes_sft.shift.of_predictor import bounds_by_shift

    if certificate.profile is None:
        return None
    kept = ("value", "raw", "vacuous", "guarantee", "confidence", "predictor", "target")
    terms = {
        name: {k: v for k, v in _bound(e, e, 0.0).items() if k in kept}
        | {"assumptions": list(e.assumptions)}
        for name, e in bounds_by_shift(certificate).items()
    }
    return {"column": certificate.profile.column, "note": PAYS_FOR_ONE, **terms}


def _excess(certificate: Certificate) -> dict[str, Any] | None:
    """What the recursive bound stands on; None where it was left out."""
    excess, reference = certificate.excess, certificate.reference
    if excess is None or reference is None:
        return None
    return {
        "value": excess.value,
        "more": excess.more.to_dict(),
        "less": excess.less.to_dict(),
        "reference": reference.to_dict(),
    }


def _baselines(certificate: Certificate) -> dict[str, Any]:
    """Each baseline, and the best of all limits at the confidence that the choice leaves."""
    c = certificate
    claims = {name: b.on_test for name, b in c.baselines.items()}
    name, best = best_of({"bound": c.bound, **claims})
    return {
        **{
            name: {
                "predictor": b.predictor,
                "value": b.on_test.upper,
                "train_value": b.on_train.upper if b.on_train else None,
                "vacuous": is_vacuous(b.on_test),
                "estimate": b.on_test.to_dict(),
                "note": b.note,
            }
            for name, b in c.baselines.items()
        },
        "best": {"name": name, "value": best.upper, "confidence": best.confidence},
    }


def drift_of(certificate: Certificate) -> dict[str, Any]:
    """How far the posterior is from the model that people deploy."""
    measured = certificate.measured
    return distances_of(certificate) | {
        "risk_gibbs_minus_finished": (
            measured.test_risk.value - measured.test_risk_finetuned.value
            if measured.test_risk
            else None
        ),
        "agreement": measured.agreement.to_dict() if measured.agreement else None,
    }


def distances_of(certificate: Certificate) -> dict[str, Any]:
    """Where the posterior's mean lies, and how large its noise is."""
    pair, q = certificate.inputs.pair, certificate.fitted.posterior
    return {
        "distance": math.sqrt(squared_distance(q.mean, pair.posterior)),
        "distance_finished_to_prior": math.sqrt(pair.squared_distance),
        "distance_to_prior": math.sqrt(squared_distance(q.mean, pair.prior)),
        "distance_note": "of the posterior's mean from the finished weights (in the balanced gauge "
        "where the initial adapter was lost), of those from the prior's mean, and of the "
        "posterior's mean from it",
        "noise_norm": noise_norm(q),
    }


def write_bound_json(certificate: Certificate, file: Path) -> None:
    """Write ``bound.json`` whole or not at all."""
    text = json.dumps(to_record(certificate), indent=1, allow_nan=False)
    with replacing(file) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def warnings_of(certificate: Certificate) -> list[str]:
    """Return what a reader must know before quoting a number."""
    c = certificate
    found = list(c.inputs.warnings)
    found += not_around(distances_of(c), c.inputs.pair.prior_source)
    found += auto_warnings(c.inputs.train, c.inputs.test, c.options.shift)
    vacuous = [name for name, (test, _) in c.bounds.items() if is_vacuous(test)]
    if vacuous:
        found.append(
            f"vacuous (at or above 1, so they say nothing about a loss in [0, 1]): "
            f"{', '.join(vacuous)}"
        )
    found.append(
        "the bounds speak of the Gibbs predictor (a fresh draw from the posterior per use); the "
        "finished checkpoint's own risk is not covered"
    )
    if c.bound.guarantee is Guarantee.ESTIMATE:
        found.append("a part of the bound is only estimated, so the bound is an estimate")
    if c.terms.extrapolation >= 1:
        found.append(f"the shift term is 1 ({c.shift.reason}): nothing carries to the test rows")
    gap, limit = c.measured, c.shift.tv.upper
    if gap.train_distribution_risk and gap.test_risk:
        least = gap.test_risk.lower - gap.train_distribution_risk.upper
        if least > limit:
            spent = c.shift.tv.delta if c.shift.tv.confidence > 0 else 0.0
            level = 1 - 2 * INTERVAL_DELTA - spent
            and_limit = f", and the limit's own δ = {failure(spent)}" if spent else ""
            found.append(
                f"refuted, at {confidence_percent(level)} (two intervals of 95 % each{and_limit}): "
                f"the gap R_test - R_train is at least {rounded_down(least, 3)}, above the shift "
                f"term's limit {rounded_up(limit, 3)}; an assumption of the shift term is false"
            )
    return found


def _bound(test: Estimate, train: Estimate, delta: float) -> dict[str, Any]:
    record: dict[str, Any] = {
        "value": min(1.0, test.upper),
        "raw": test.upper if math.isfinite(test.upper) else None,
        "train_value": min(1.0, train.upper),
        "train_raw": train.upper if math.isfinite(train.upper) else None,
        "vacuous": is_vacuous(test),
        "train_vacuous": is_vacuous(train),
        "guarantee": str(test.guarantee),
        "delta": delta,
        "confidence": test.confidence,
        "predictor": "gibbs",
        "target": "test_distribution",
    }
    if record["raw"] is None:
        record["null_reason"] = "the KL is infinite"
    return record


def _gap(gap: Estimate | None) -> dict[str, Any]:
    if gap is None:
        return {"value": None, "null_reason": "needs held-out rows of the train distribution"}
    return {"value": gap.value, "guarantee": str(gap.guarantee), "predictor": "gibbs"}


def _risk(estimate: Estimate | None, predictor: str, target: str) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return estimate.to_dict() | {"predictor": predictor, "target": target}


def _seen_by_prior(inputs: Inputs, options: Options) -> str:
    if not isinstance(options.prior, Path):
        return "what the base saw"
    kept = inputs.finetuned / RECORD_DIR / "prior"
    if inputs.record and inputs.record.prior_rows and options.prior.resolve() == kept.resolve():
        return "the first rows of the recorded order"
    return "as declared with --prior-train, not on record"


def _provenance(certificate: Certificate) -> dict[str, Any]:
    inputs, options = certificate.inputs, certificate.options

    def table(t: Table | None) -> dict[str, Any] | None:
        return {"source": t.source, "sha256": t.sha256, "rows": len(t.rows)} if t else None

    return {
        "base": {
            "source": public_name(inputs.base),
            "sha256": inputs.base_sha256,
            "precision": inputs.base_precision,
        },
        "finetuned": {
            "source": public_name(str(inputs.finetuned)),
            "sha256": inputs.finetuned_sha256,
        },
        "train": table(inputs.train),
        "test": table(inputs.test),
        "train_heldout": table(inputs.heldout),
        "labelled": table(inputs.labelled),
        "prior": str(options.prior),
        "prior_train": options.prior_train,
        "theorem": options.theorem.value,
        "seed": options.seed,
        "device": options.device,
        "dtype": options.dtype,
        "trust_remote_code": options.trust_remote_code,
        "versions": versions(*COMPUTED_WITH),
        "saw": {
            "base": "unknown",
            "prior": _seen_by_prior(inputs, options),
            "posterior": "the recorded training rows" if inputs.record else "unknown",
            "run_record": inputs.record is not None,
        },
    }
