"""The model card of a certified adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from estimators.display import confidence, failure, rounded_down, rounded_up
from pacbayes_sft.choices import Loss
from pacbayes_sft.report.model_card import evaluation_results
from pacbayes_sft.report.sentence import MEANING
from pacbayes_sft.whereabouts import drawn_from, what_is_certified


def model_card(record: dict[str, Any]) -> str:
    """Return ``README.md``: what the certificate says in plain words, and what it does not."""
    sources, draw, measured = record["sources"], record["draw"], record["measured"]
    base, _, revision = sources["base"].partition("@")
    assumptions = "\n".join(f"* {sentence}" for sentence in record["assumptions"])
    warnings = "".join(f"* Warning: {sentence}.\n" for sentence in record["warnings"])
    counted = (
        f"number {draw['k']} of {draw['declared']} declared"
        if draw["declared"]
        else f"number {draw['k']} from this fine-tune, none declared"
    )
    loss, name = record["loss"], f"the fine-tune `{Path(sources['finetuned']).name}`"
    return f"""---
{_metadata(record, _last(base))}
---
# {_title(record)}

One draw from {drawn_from(record, name)}. The base is
`{_last(base)}`{f" at revision `{revision}`" if revision else ""}.
`peft.PeftModel.from_pretrained(base, DIR)` loads it as it loads any adapter.

## Certificate

{" ".join([certificate_sentence(record), what_is_certified(record, name)]).rstrip()}

An example's loss is {MEANING[Loss(loss)]}.

| | |
|---|---|
| empirical risk of this adapter on {record["n"]:,} training units | {_value(record, "empirical_risk")} |
| ln(dQ/dP) of the draw | {record["log_ratio"]["value"]:.2f} nats |
| bound on its risk, train distribution | {_bound(record["train_bound"], record["train_vacuous"])} |
| bound on its risk, test distribution | {_bound(record["bound"], record["vacuous"])} |
| its measured risk on the test rows | {_interval(measured["test_risk"])} |
| the fine-tune's measured risk on the test rows | {_interval(measured["test_risk_finetuned"])} |
| draw | {counted}, seed {draw["seed"]}, pays δ = {failure(draw["delta"])} of {record["delta"]:g} |

What it does **not** say:

* It does not speak of the fine-tune itself, nor of any other draw from the posterior.
* Merging this adapter into its base, or casting it again, voids it: it holds for these
  {record["deployed"]["dtype"]} factors beside a base run in {record["evaluation"]["dtype"]}.
* It speaks of the average loss `{loss}` over units (problems, each counted once however many rows it
  has) of the stated distribution, not of single answers, of other prompts or of another loss.
* The measured risks stand at 95 % each, outside the certificate.
{warnings}
It rests on these assumptions, which no program can check:

{assumptions}

`pacbayes-sft verify DIR --train ROWS` recomputes it from `certificate/`.
"""  # noqa: E501 - a table's row is one line


def _promises(record: dict[str, Any]) -> bool:
    return record["bound"]["guarantee"] == "upper" and not record["vacuous"]


def _title(record: dict[str, Any]) -> str:
    if _promises(record):
        return "A certified adapter"
    kind = "a vacuous certificate" if record["vacuous"] else "an estimate, no certificate"
    return f"An adapter with {kind}"


def _metadata(record: dict[str, Any], base: str) -> str:
    """The card's head, as the hub reads it: what it is, and its results as a ``model-index``."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=base,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "pac-bayes", *(["certified"] if _promises(record) else [])],
        model_name=_title(record).lower(),
        eval_results=evaluation_results(record, record["measured"]["test_risk"], "draw"),
    )
    return str(data.to_yaml())


def certificate_sentence(record: dict[str, Any]) -> str:
    """Say what the certificate promises, in plain words."""
    bound, train = record["bound"], record["train_bound"]
    if bound["guarantee"] != "upper":
        return (
            f"No certificate on the test distribution, only an estimate: about "
            f"{rounded_up(bound['upper'], 3)} or less; a part of the bound carries no upper limit."
        )
    if record["vacuous"]:
        rest = "" if record["train_vacuous"] else (
            f" On the train distribution it is at most {rounded_up(train['upper'], 3)}."
        )  # fmt: skip
        return (
            f"Vacuous: the bound on the test risk is {rounded_up(bound['upper'], 3)}, and no "
            f"loss in [0, 1] exceeds 1, so nothing is promised there.{rest}"
        )
    return (
        f"With probability {confidence(bound['confidence'])} over the draw of the training rows "
        f"and of this adapter, its risk on the test distribution is at most "
        f"**{rounded_up(bound['upper'], 3)}**, if the assumptions below hold."
    )


def _last(base: str) -> str:
    """The hub id, or the last part of a path: a card names no machine."""
    return base if base.count("/") == 1 and not base.startswith((".", "/")) else Path(base).name


def _value(record: dict[str, Any], key: str) -> str:
    return f"{record[key]['value']:.4f} (exact)"


def _bound(bound: dict[str, Any], vacuous: bool) -> str:
    return f"{rounded_up(bound['upper'], 4)} ({'vacuous' if vacuous else bound['guarantee']})"


def _interval(risk: dict[str, Any]) -> str:
    return f"{risk['value']:.4f} [{rounded_down(risk['lower'], 3)}, {rounded_up(risk['upper'], 3)}]"
