"""Render a certificate as a self-contained page."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from estimators.display import confidence_percent, rounded_up
from pacbayes_sft.atomic import replacing
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import Certificate
from pacbayes_sft.choices import Posterior
from pacbayes_sft.options import Options
from pacbayes_sft.report.sentence import sentence, what_it_does_not_say
from pacbayes_sft.report.tables import tables
from pacbayes_sft.report.waterfall import waterfall

TEMPLATE = Path(__file__).parent / "report.html.jinja"


def render_report(certificate: Certificate, picture: Path | None, command: str) -> str:
    """Return the page.

    Args:
        certificate: What to report.
        picture: A PNG to embed, or None.
        command: The exact command that made it.
    """
    return render_record(to_record(certificate), picture, command)


def render_record(record: Mapping[str, Any], picture: Path | None, command: str) -> str:
    """Return the page from the content of ``bound.json``; see `render_report`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page: str = template.render(
        record=record,
        rounded_up=rounded_up,
        confidence_percent=confidence_percent,
        sentence=sentence(record),
        silent_on=what_it_does_not_say(record),
        steps=waterfall(record),
        tables=tables(record),
        picture=base64.b64encode(picture.read_bytes()).decode() if picture else None,
        command=command,
    )
    return page


def write_report(certificate: Certificate, file: Path, *, picture: Path, command: str) -> None:
    """Write ``report.html`` whole or not at all."""
    page = render_report(certificate, picture, command)
    with replacing(file) as partial:
        partial.write_text(page, encoding="utf-8")


def notebook(certificate: Certificate) -> str:
    """Return what a notebook shows of a certificate: the sentence, the terms, the bounds."""
    import pandas as pd

    record = to_record(certificate)
    shown = [table for table in tables(record) if table.name in ("terms", "bounds", "measured")]
    blocks = [
        f"<p><b>{escape(table.title)}</b></p>"
        + pd.DataFrame(list(table.rows), columns=list(table.columns)).to_html(index=False)
        for table in shown
    ]
    return f"<p>{escape(sentence(record))}</p>" + "".join(blocks)


def reproduce(
    base: str,
    finetuned: Path,
    train: str,
    test: str,
    options: Options,
    train_heldout: str | None = None,
    labelled: str | None = None,
) -> str:
    """Return the command line that makes this certificate again."""
    words = ["pacbayes-sft", "bound", "--base", base, "--finetuned", str(finetuned)]
    words += ["--train", train, "--test", test, "--prior", str(options.prior)]
    if options.prior_train:
        words += ["--prior-train", options.prior_train]
    schedule = options.refinement.schedule
    words += ["--prior-shape", options.prior_shape.value]
    words += ["--posterior", options.posterior.value]
    words += ["--prior-scales", ",".join(map(repr, options.prior_scales))]
    if options.posterior in (Posterior.AUTO, Posterior.REFINED):
        words += ["--steps", str(schedule.steps)]
        words += ["--refine-batch", str(options.refinement.batch_size)]
        words += ["--start", options.refinement.start.value]
        for flag, value in (("time-budget", schedule.time_budget), ("radius", schedule.radius)):
            words += [f"--{flag}", repr(value)] if value is not None else []
    if options.space:
        words += ["--space", options.space.value]
    words += ["--shift", options.shift, "--loss", options.loss.value]
    words += ["--delta", repr(options.delta), "--draws", str(options.draws)]
    words += ["--theorem", options.theorem.value]
    words += ["--batch-size", str(options.batch_size), "--seed", str(options.seed)]
    words += ["--device", options.device, "--dtype", options.dtype]
    if options.max_length:
        words += ["--max-length", str(options.max_length)]
    if options.trust_remote_code:
        words += ["--trust-remote-code"]
    if train_heldout:
        words += ["--train-heldout", train_heldout]
    if labelled:
        words += ["--labelled", labelled]
    if options.profile:
        words += ["--profile", options.profile]
    return shlex.join(words)
