"""Write one draw from a posterior as an ordinary PEFT adapter with its certificate inside.

    DIR/adapter_model.safetensors, adapter_config.json   what PEFT loads: the draw, rounded
    DIR/README.md                                        a model card with the certificate in words
    DIR/certificate/certificate.json                     the numbers, and what `verify` needs
    DIR/certificate/draw.safetensors                     the draw as drawn, float32
    DIR/certificate/posterior.safetensors, prior.safetensors

*Deployed means rounded* (design §4): R̂ is taken on the adapter as PEFT loads it, ln(dQ/dP) at the
draw as it was drawn. P is the equal mixture over the whole grid of prior scales.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from estimators import (
    DiagonalGaussian,
    Estimate,
    Ledger,
    disintegrated,
    is_vacuous,
    log_density_ratio_mixture,
    save_gaussian,
    with_shift,
)
from estimators.posteriors import isotropic
from pacbayes_sft.certified.card import model_card
from pacbayes_sft.certified.deployed import deployed_losses
from pacbayes_sft.certified.draws import number_of_draw, share_of_draw
from pacbayes_sft.certify import Certificate
from pacbayes_sft.checkpoints.files import ADAPTER, sha256_of
from pacbayes_sft.checkpoints.lora import CONFIG, read_adapter
from pacbayes_sft.choices import Space
from pacbayes_sft.data.rows import Table
from pacbayes_sft.errors import InputError
from pacbayes_sft.gibbs import stream_of
from pacbayes_sft.risk import risk_estimate

FOLDER = "certificate"
VERSION = 1
DTYPES = ("float32", "bfloat16", "float16")
SHIFT_EVENT = "shift: limit from samples"
DRAW_EVENT = "disintegrated PAC-Bayes-kl for this draw"


def emit_adapter(
    certificate: Certificate,
    directory: Path,
    *,
    dtype: str | None = None,
    declared_draws: int | None = None,
) -> dict[str, Any]:
    """Draw once from the certificate's posterior and write the draw as a certified adapter.

    The draw's certificate is a claim of its own, at 1 - δ; the Gibbs bounds of ``certificate`` are
    another.

    Args:
        certificate: A bound whose posterior lives on LoRA factors.
        directory: Where to write; must not exist or be empty.
        dtype: The dtype to deploy in; None: that of the finished adapter's file.
        declared_draws: How many draws were declared before the first was made.

    Returns:
        The content of ``certificate.json``.

    Raises:
        InputError: If no adapter can be drawn, or ``directory`` holds something.
    """
    _refuse(certificate, directory, dtype)
    inputs, options, fitted = certificate.inputs, certificate.options, certificate.fitted
    finished = read_adapter(inputs.finetuned)
    stored = next(iter(finished.layers.values())).a.dtype
    deployed = getattr(torch, dtype) if dtype else stored
    partial = directory.with_name(f".partial-{directory.name}")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / FOLDER).mkdir(parents=True)
    try:
        save_gaussian(fitted.posterior, partial / FOLDER / "posterior.safetensors")
        save_gaussian(fitted.prior, partial / FOLDER / "prior.safetensors")
        posterior_sha256 = sha256_of(partial / FOLDER / "posterior.safetensors")
        # a stream of its own: nothing that fitted the posterior has seen it
        generator = torch.Generator().manual_seed(stream_of(options.seed, "certified draw"))
        draw = {name: t.float() for name, t in fitted.posterior.sample(generator).items()}
        save_file(draw, str(partial / FOLDER / "draw.safetensors"))
        save_file(rounded(draw, deployed), str(partial / ADAPTER), metadata={"format": "pt"})
        shutil.copy(inputs.finetuned / CONFIG, partial / CONFIG)
        k = number_of_draw(
            inputs.finetuned, f"{posterior_sha256} seed {options.seed}", declared_draws
        )
        ledger = Ledger(options.delta)
        if certificate.shift.tv.delta > 0:
            ledger.spend(SHIFT_EVENT, certificate.leaves.shift)
        share = ledger.spend(DRAW_EVENT, share_of_draw(ledger.left, k, declared_draws))
        on_train, on_test = deployed_losses(
            inputs.base, partial, [inputs.certified, inputs.test], options
        )
        risk = float(on_train.mean())
        ratio = log_density_ratio_mixture(
            draw, fitted.posterior, mixture(fitted.prior, options.sigmas)
        )
        train_bound = disintegrated(risk, ratio, inputs.n, share)
        test_bound = with_shift(train_bound, certificate.shift.tv)
        record: dict[str, Any] = {
            "version": VERSION,
            "n": inputs.n,
            "delta": options.delta,
            "delta_ledger": ledger.rows(),
            "loss": options.loss.value,
            "predictor": "draw",
            "target": "test_distribution",
            "empirical_risk": Estimate.exactly(
                risk, method=f"the deployed draw on all {inputs.n} units", unit="probability"
            ).to_dict(),
            "log_ratio": Estimate.exactly(
                ratio,
                method="ln(dQ/dP), unrounded, P a mixture of scales",
                unit="nats",
            ).to_dict(),
            "train_bound": train_bound.to_dict(),
            "bound": test_bound.to_dict(),
            "vacuous": is_vacuous(test_bound),
            "shift": certificate.shift.to_dict(),
            "draw": {"k": k, "declared": declared_draws, "seed": options.seed},
            "deployed": {
                "dtype": str(deployed).removeprefix("torch."),
                "note": "merging this adapter or casting it again voids the certificate",
            },
            "evaluation": {
                "dtype": options.dtype,
                "batch_size": options.batch_size,
                "max_length": options.max_length,
            },
            "prior": {"sigma_grid": list(options.sigmas), "centre": inputs.pair.prior_source},
            "gibbs_bound": certificate.bound.to_dict(),
            "measured": {
                "test_risk": risk_estimate(
                    on_test, 0.05, population="the test distribution"
                ).to_dict(),
                "test_risk_finetuned": certificate.measured.test_risk_finetuned.to_dict(),
            },
            "assumptions": list(dict.fromkeys([*test_bound.assumptions, *inputs.pair.assumptions])),
            "warnings": list(inputs.warnings),
            "provenance": {
                "base": {"source": inputs.base, "sha256": inputs.base_sha256},
                "finetuned": {
                    "source": str(inputs.finetuned),
                    "sha256": inputs.finetuned_sha256,
                },
                "adapter_sha256": sha256_of(partial / ADAPTER),
                "draw_sha256": sha256_of(partial / FOLDER / "draw.safetensors"),
                "posterior_sha256": posterior_sha256,
                "prior_sha256": sha256_of(partial / FOLDER / "prior.safetensors"),
                "train": {
                    "source": inputs.train.source,
                    "certified_rows": certified_rows(inputs.train, inputs.certified),
                    "certified_sha256": table_sha256(inputs.certified),
                },
                "versions": {name: version(name) for name in ("pacbayes-sft", "torch", "peft")},
            },
        }
        (partial / FOLDER / "certificate.json").write_text(
            json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
        (partial / "README.md").write_text(model_card(record), encoding="utf-8")
        if directory.is_dir():
            directory.rmdir()  # empty: checked above
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def rounded(draw: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the tensors of the adapter's file: PEFT's names, the deployment's dtype."""
    return {
        f"base_model.model.{name}.weight": tensor.to(dtype).contiguous()
        for name, tensor in draw.items()
    }


def mixture(prior: DiagonalGaussian, sigmas: tuple[float, ...]) -> list[DiagonalGaussian]:
    """Return the components of the prior: its centre at every scale of the grid."""
    return [isotropic.fit(prior.mean, sigma) for sigma in sigmas]


def certified_rows(train: Table, certified: Table) -> list[int]:
    """Return the places in the training file of the certified rows, in their order."""
    places: dict[str, list[int]] = {}
    for index, (row, unit) in enumerate(zip(train.rows, train.units, strict=True)):
        places.setdefault(f"{unit} {row.sha256()}", []).append(index)
    return [
        places[f"{unit} {row.sha256()}"].pop(0)
        for row, unit in zip(certified.rows, certified.units, strict=True)
    ]


def table_sha256(table: Table) -> str:
    """Return one hash over text, answer and unit of all rows, in order."""
    digest = hashlib.sha256()
    for row, unit in zip(table.rows, table.units, strict=True):
        digest.update(json.dumps([row.sha256(), row.answer, unit]).encode())
    return digest.hexdigest()


def _refuse(certificate: Certificate, directory: Path, dtype: str | None) -> None:
    if certificate.inputs.pair.space is not Space.FACTORS:
        raise InputError(
            f"{certificate.inputs.finetuned}: a draw in weights space has full rank and is no "
            "adapter; use --space factors"
        )
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--emit-dtype {dtype}: must be one of {', '.join(DTYPES)}")
    refuse_occupied(directory)


def refuse_occupied(directory: Path) -> None:
    """Raise `InputError` if an adapter cannot be written there."""
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise InputError(f"{directory}: not empty; give another --emit-adapter")
