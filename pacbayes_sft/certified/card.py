"""The model card of a certified adapter."""

from __future__ import annotations

from typing import Any


def model_card(record: dict[str, Any]) -> str:
    """Return ``README.md``: what the certificate says in plain words, and what it does not."""
    bound, provenance = record["bound"], record["provenance"]
    assumptions = "\n".join(f"* {sentence}" for sentence in record["assumptions"])
    measured = record["measured"]["test_risk"]
    interval = f"[{measured['lower']:.3f}, {measured['upper']:.3f}]"
    return f"""---
base_model: {provenance["base"]["source"]}
library_name: peft
tags: [lora, pac-bayes, certified]
---
# A certified adapter

One draw from a Gaussian posterior around the fine-tune `{provenance["finetuned"]["source"]}`.
`peft.PeftModel.from_pretrained(base, DIR)` loads it as it loads any adapter.

## Certificate

{certificate_sentence(record)}

| | |
|---|---|
| empirical risk of this adapter, {record["n"]:,} units | {record["empirical_risk"]["value"]:.4f} |
| ln(dQ/dP) of the draw | {record["log_ratio"]["value"]:.2f} nats |
| bound, train distribution | {record["train_bound"]["upper"]:.4f} |
| bound, test distribution | {bound["upper"]:.4f} ({bound["guarantee"]}) |
| measured on the test rows | {measured["value"]:.4f} {interval} |
| draw | number {record["draw"]["k"]} from this fine-tune, seed {record["draw"]["seed"]} |

It does **not** speak of the fine-tune itself, of any other draw, of this adapter merged into its
base or cast to another dtype than {record["deployed"]["dtype"]}, or of another loss than
`{record["loss"]}`.

Assumptions:

{assumptions}

`pacbayes-sft verify DIR --train ROWS` recomputes all of it from `certificate/`.
"""


def certificate_sentence(record: dict[str, Any]) -> str:
    """Say what the certificate promises, in one sentence."""
    bound = record["bound"]
    if bound["guarantee"] != "upper":
        return (
            f"No certificate, only an estimate: about {bound['upper']:.3f} or less on the test "
            "distribution; a part of the bound carries no upper limit."
        )
    if record["vacuous"]:
        return f"Vacuous: the bound is {bound['upper']:.3f}, and no loss in [0, 1] exceeds 1."
    return (
        f"With probability {bound['confidence']:.4g} over the draw of the training rows and of "
        f"this adapter, its risk on the test distribution is at most **{bound['upper']:.3f}** "
        f"(loss `{record['loss']}`), if the assumptions below hold."
    )
