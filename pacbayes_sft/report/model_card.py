"""A certificate in the model card (``README.md``) of the fine-tune that it was computed for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacbayes_sft.atomic import replacing
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import Certificate
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import not_utf8
from pacbayes_sft.report.export import markdown
from pacbayes_sft.report.sentence import sentence, what_it_does_not_say
from pacbayes_sft.report.tables import tables

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

BEGIN, END = "<!-- pacbayes-sft: begin -->", "<!-- pacbayes-sft: end -->"
SHOWN = ("terms", "bounds", "measured")


def model_card_section(certificate: Certificate) -> str:
    """Return a section in plain words for the card of the fine-tune: Markdown, no metadata."""
    record = to_record(certificate)
    shown = "\n\n".join(markdown(table) for table in tables(record) if table.name in SHOWN)
    return f"""## PAC-Bayes certificate

{sentence(record)}

{_bullets(what_it_does_not_say(record))}

{shown}

It rests on these assumptions:

{_bullets(record["assumptions"])}
"""


def update_model_card(certificate: Certificate, file: Path | str) -> None:
    """Write the section and ``model-index`` metadata into a card, or write the card.

    What else the card says is left as it is (but for comments in its metadata, which are written
    anew); a section written before is replaced. The metadata get the measured risks, and the bound
    where it is a promise: a vacuous or estimated one has no place among results.

    Args:
        certificate: What to say.
        file: A ``README.md`` as the hub knows it, or the directory that it is in.

    Raises:
        InputError: If the card's metadata or the marks of an earlier section cannot be read.
    """
    from huggingface_hub import ModelCard, ModelCardData

    path = Path(file) / "README.md" if Path(file).is_dir() else Path(file)
    record = to_record(certificate)
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else "---\n---\n"
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    _refuse_broken(path, text)
    try:
        card = ModelCard(text, ignore_metadata_errors=False)
    except Exception as error:
        raise InputError(f"{path}: its metadata cannot be read ({error})") from None
    data: Any = card.data
    known = data.to_dict()
    mine = evaluation_results(record, record["measured"]["test_risk_finetuned"], "gibbs")
    names = {result.metric_name for result in mine}
    others = [r for r in data.eval_results or [] if r.metric_name not in names]
    name = Path(record["provenance"]["finetuned"]["source"]).name
    known.pop("model-index", None)
    known["model_name"] = data.get("model_name") or name
    known.pop("eval_results", None)
    data = ModelCardData(**known, eval_results=[*others, *mine])
    body = re.sub(f"{BEGIN}.*?{END}", "", card.text, flags=re.S).strip()
    section = f"{BEGIN}\n{model_card_section(certificate)}{END}"
    with replacing(path) as partial:
        partial.write_text(f"---\n{data.to_yaml()}\n---\n{body}\n\n{section}\n", encoding="utf-8")


def _refuse_broken(path: Path, text: str) -> None:
    """Refuse what would be read as something else, and lost."""
    if text.startswith("---") and not re.search(r"^---\s*$", text[3:], flags=re.M):
        raise InputError(f"{path}: its metadata have no closing line '---'; add it")
    marks = re.findall(f"{BEGIN}|{END}", text)
    if marks not in ([], [BEGIN, END]):
        raise InputError(
            f"{path}: holds the marks {BEGIN} and {END} otherwise than once each, in this order; "
            "remove the old section"
        )


def evaluation_results(
    record: Mapping[str, Any], measured: Mapping[str, Any], predictor: str
) -> list[EvalResult]:
    """Return ``model-index`` entries: the measured risk, and the bound where it promises something.

    Args:
        record: Content of ``bound.json`` or ``certificate.json``: ``bound``, ``loss``, ``delta``.
        measured: The measured test risk to state.
        predictor: Whom the bound speaks of: ``gibbs``, or ``draw`` for a certified adapter.
    """
    from huggingface_hub import EvalResult

    source = record.get("provenance", record.get("sources", {}))["test"]["source"]
    about: dict[str, Any] = {
        "task_type": "text-generation",
        "dataset_type": "file",
        "dataset_name": Path(source).name,
    }
    loss, bound = record["loss"], record["bound"]
    found = [
        EvalResult(
            **about,
            metric_type=f"{loss}_loss",
            metric_name=f"measured {loss} loss",
            metric_value=measured["value"],
        )
    ]
    if bound["guarantee"] == "upper" and bound["upper"] is not None and bound["upper"] < 1:
        whom = "this adapter" if predictor == "draw" else "the Gibbs predictor, not this checkpoint"
        found.append(
            EvalResult(
                **about,
                metric_type="pac_bayes_upper_bound",
                metric_name=f"PAC-Bayes bound on the {loss} loss of {whom}",
                metric_value=bound["upper"],
                metric_args={"confidence": round(bound["confidence"], 9), "n": record["n"]},
            )
        )
    return found


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"* {sentence}" for sentence in sentences)
