"""Render a certificate as a self-contained page."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

from estimators import Guarantee, is_vacuous
from pacbayes_sft.atomic import replacing
from pacbayes_sft.bound_json import to_record
from pacbayes_sft.certify import Certificate
from pacbayes_sft.choices import Loss, Posterior
from pacbayes_sft.options import Options

MEANING = {
    Loss.EXACT_MATCH: "1 unless every completion token is the arg-max after the true ones",
    Loss.TOKEN_ERROR: "the share of its completion tokens that are not the arg-max",
    Loss.SMOOTHED_NLL: "its smoothed log-loss rescaled to [0, 1]",
    Loss.ANSWER: "1 unless the greedily written solution ends in the right answer",
}
TEMPLATE = Path(__file__).parent / "report.html.jinja"


def certificate_sentence(certificate: Certificate) -> str:
    """Say in plain words what the primary bound promises, and of which predictor."""
    c, bound = certificate, certificate.bound
    predictor = (
        "a model drawn afresh from the stated posterior around this fine-tune for every use (the "
        "Gibbs predictor)"
    )
    meaning = MEANING[c.options.loss]
    where = f"examples drawn from the test distribution, where an example's loss is {meaning}"
    if bound.guarantee is Guarantee.ESTIMATE:
        return (
            f"No certificate, only an estimate: {predictor} has a risk of about {bound.upper:.3f} "
            f"or less on {where}. A part of the bound carries no upper limit."
        )
    if is_vacuous(bound):
        train = c.bounds[c.primary][1]
        rest = (
            f" On the train distribution it is {train.upper:.3f}."
            if not is_vacuous(train)
            else " On the train distribution it is vacuous too."
        )
        return (
            f"Vacuous: the bound on the test risk is {bound.upper:.3f}, and no loss in [0, 1] "
            f"exceeds 1, so nothing is promised there.{rest}"
        )
    return (
        f"With probability {bound.confidence:.4g} over the draw of the rows and of the Monte Carlo "
        f"noise, {predictor} has a risk of at most {bound.upper:.3f} on {where}, if the "
        "assumptions below hold."
    )


def render_report(certificate: Certificate, picture: Path | None, command: str) -> str:
    """Return the page.

    Args:
        certificate: What to report.
        picture: A PNG to embed, or None.
        command: The exact command that made it.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    record = to_record(certificate)
    page: str = template.render(
        record=record,
        sentence=certificate_sentence(certificate),
        picture=base64.b64encode(picture.read_bytes()).decode() if picture else None,
        command=command,
        terms=_terms(record),
        bounds=[(name, entry) for name, entry in record["bounds"].items()],
        measured=_measured(record),
        baselines=[(k, b) for k, b in record["baselines"].items() if k != "best"],
    )
    return page


def write_report(certificate: Certificate, file: Path, *, picture: Path, command: str) -> None:
    """Write ``report.html`` whole or not at all."""
    page = render_report(certificate, picture, command)
    with replacing(file) as partial:
        partial.write_text(page, encoding="utf-8")


def reproduce(
    base: str,
    finetuned: Path,
    train: str,
    test: str,
    options: Options,
    train_heldout: str | None = None,
) -> str:
    """Return the command line that makes this certificate again."""
    words = ["pacbayes-sft", "bound", "--base", base, "--finetuned", str(finetuned)]
    words += ["--train", train, "--test", test, "--prior", str(options.prior)]
    if options.prior_train:
        words += ["--prior-train", options.prior_train]
    schedule = options.refinement.schedule
    words += ["--prior-shape", options.prior_shape.value]
    words += ["--posterior", options.posterior.value]
    words += ["--prior-scales", ",".join(f"{sigma:g}" for sigma in options.sigmas)]
    if options.posterior in (Posterior.AUTO, Posterior.REFINED):
        words += ["--steps", str(schedule.steps)]
        words += ["--refine-batch", str(options.refinement.batch_size)]
        words += ["--start", options.refinement.start.value]
        for flag, value in (("time-budget", schedule.time_budget), ("radius", schedule.radius)):
            words += [f"--{flag}", f"{value:g}"] if value is not None else []
    if options.space:
        words += ["--space", options.space.value]
    words += ["--shift", options.shift, "--loss", options.loss.value]
    words += ["--delta", f"{options.delta:g}", "--draws", str(options.draws)]
    words += ["--theorem", options.theorem.value]
    words += ["--batch-size", str(options.batch_size), "--seed", str(options.seed)]
    words += ["--device", options.device, "--dtype", options.dtype]
    if options.max_length:
        words += ["--max-length", str(options.max_length)]
    if options.trust_remote_code:
        words += ["--trust-remote-code"]
    if train_heldout:
        words += ["--train-heldout", train_heldout]
    return shlex.join(words)


def _terms(record: dict[str, Any]) -> list[tuple[str, float, str]]:
    labels = {
        "empirical_risk": ("empirical risk E_Q[R̂_S]", record["empirical_risk"]["guarantee"]),
        "generalization": ("generalisation √(KL/2n)", record["kl"]["guarantee"]),
        "extrapolation": ("extrapolation (shift)", record["tv"]["guarantee"]),
        "epsilon": ("ε = √(ln(2√n/δ)/2n)", "exact"),
    }
    return [(label, record["terms"][key], promise) for key, (label, promise) in labels.items()]


def _measured(record: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    rows = [
        ("test rows", "Gibbs predictor (covered)", record["measured"]["test_risk"]),
        (
            "held-out train rows", "Gibbs predictor (covered)",
            record["measured"]["train_distribution_risk"],
        ),
        ("test rows", "finished model (not covered)", record["measured"]["test_risk_finetuned"]),
        (
            "training rows", "finished model (not covered)",
            record["measured"]["train_risk_finetuned"],
        ),
    ]  # fmt: skip
    return [row for row in rows if row[2] is not None]
