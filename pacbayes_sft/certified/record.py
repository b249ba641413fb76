"""The content of ``certificate.json``: versioned, stable keys, every number labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators import Estimate, is_vacuous
from pacbayes_sft.bound_json import distances_of
from pacbayes_sft.certified.claim import Claim
from pacbayes_sft.certified.draws import Numbered
from pacbayes_sft.certify import Certificate
from pacbayes_sft.data.rows import Table
from pacbayes_sft.measure import INTERVAL_DELTA, TEST, TRAIN
from pacbayes_sft.models import public_name
from pacbayes_sft.risk import Losses, risk_estimate
from pacbayes_sft.shift import auto_warnings
from pacbayes_sft.versions import COMPUTED_WITH, versions
from pacbayes_sft.whereabouts import not_around

VERSION = 3
VOID = "merging this adapter into its base or casting it again voids this certificate"


@dataclass(frozen=True)
class Evidence:
    """What was found about a draw.

    Attributes:
        event: All that its event depends on.
        number: Which draw it is.
        shift_delta: What the shift term spends.
        ratio: ln(dQ/dP) at the unrounded draw, in nats.
        claim: Its bounds.
        hashes: Of every file written.
        losses: Unit losses of the deployed draw on the certified, the test and, if there are any,
            the held-out train rows.
    """

    event: Mapping[str, Any]
    number: Numbered
    shift_delta: float
    ratio: Estimate
    claim: Claim
    hashes: Mapping[str, str]
    losses: list[Losses]


def to_record(certificate: Certificate, evidence: Evidence) -> dict[str, Any]:
    """Return the JSON-ready content of ``certificate.json``."""
    c, e, inputs, options = certificate, evidence, certificate.inputs, certificate.options
    train_measured = None
    if len(e.losses) > 2:
        train_measured = risk_estimate(e.losses[2], INTERVAL_DELTA, population=TRAIN).to_dict()
    return {
        "version": VERSION,
        "n": inputs.n,
        "delta": options.delta,
        "delta_ledger": e.claim.ledger.rows(),
        "loss": options.loss.value,
        "predictor": "draw",
        "target": "test_distribution",
        "empirical_risk": Estimate.exactly(
            float(e.losses[0].mean()),
            method=f"the deployed draw on all {inputs.n} units, one deterministic pass",
            unit="probability",
        ).to_dict(),
        "log_ratio": e.ratio.to_dict(),
        "train_bound": e.claim.on_train.to_dict(),
        "bound": e.claim.on_test.to_dict(),
        "vacuous": is_vacuous(e.claim.on_test),
        "train_vacuous": is_vacuous(e.claim.on_train),
        "shift": c.shift.to_dict() | {"delta": e.shift_delta, "asked": options.shift},
        "draw": {
            "k": e.number.k,
            "declared": e.number.declared,
            "seed": e.event["seed"],
            "delta": e.claim.delta,
        },
        "posterior": {
            "family": c.fitted.family.value,
            "reason": c.fitted.reason,
            "parameters": inputs.pair.parameters,
        },
        "drift": distances_of(c),
        "prior": {
            "centre": inputs.pair.prior_source,
            "sigma_grid": list(options.prior_scales),
            "shape": options.prior_shape.value,
        },
        "deployed": {"dtype": e.event["deployed"], "merged": False, "note": VOID},
        "evaluation": {
            "dtype": options.dtype,
            "device": options.device,
            "batch_size": options.batch_size,
            "max_length": options.max_length,
        },
        "measured": {
            "test_risk": risk_estimate(e.losses[1], INTERVAL_DELTA, population=TEST).to_dict(),
            "train_distribution_risk": train_measured,
            "test_risk_finetuned": c.measured.test_risk_finetuned.to_dict(),
        },
        "gibbs_bound": c.bound.to_dict(),
        "assumptions": list(e.claim.on_test.assumptions),
        "warnings": [
            *inputs.warnings,
            *not_around(distances_of(c), inputs.pair.prior_source),
            *auto_warnings(inputs.train, inputs.test, options.shift),
        ],
        "hashes": {
            **e.hashes,
            "rows": e.event["rows"],
            "base": inputs.base_sha256,
            "finetuned": inputs.finetuned_sha256,
        },
        "sources": {
            "base": public_name(inputs.base),
            "finetuned": str(inputs.finetuned),
            "train": _source(inputs.train),
            "test": _source(inputs.test),
        },
        "versions": versions(*COMPUTED_WITH),
    }


def as_json(record: Mapping[str, Any]) -> str:
    """Return the text of ``certificate.json``."""
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def _source(table: Table) -> dict[str, Any]:
    return {"source": table.source, "sha256": table.sha256, "rows": len(table.rows)}
