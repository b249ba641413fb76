"""Write one draw from a posterior as an ordinary PEFT adapter with its certificate inside.

*Deployed means rounded* (design §4): R̂ is taken on the adapter as PEFT loads it, ln(dQ/dP) at the
draw as it was drawn. What is written is listed in `pacbayes_sft.certified.files`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from estimators import save_gaussian
from pacbayes_sft.certified.card import model_card
from pacbayes_sft.certified.claim import claim, event_of, log_ratio
from pacbayes_sft.certified.deployed import deployed_losses
from pacbayes_sft.certified.draws import agreed_number, count_draw, draw_from
from pacbayes_sft.certified.files import (
    CARD,
    CERTIFICATE,
    DRAW,
    DTYPES,
    FOLDER,
    POSTERIOR,
    PRIOR,
    UNITS,
    config_sha256,
    hashes_of,
    read_gaussian,
    rounded,
)
from pacbayes_sft.certified.record import Evidence, as_json, to_record
from pacbayes_sft.certified.rows import rows_sha256, write_units
from pacbayes_sft.certify import Certificate
from pacbayes_sft.checkpoints.adapter_files import is_adapter
from pacbayes_sft.checkpoints.files import ADAPTER
from pacbayes_sft.checkpoints.lora import CONFIG, read_adapter
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.reading import sha256_of
from pacbayes_sft.shift import method_for, spends_delta


def emit_adapter(
    certificate: Certificate,
    directory: Path,
    *,
    dtype: str | None = None,
    declared_draws: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Draw once from the certificate's posterior and write the draw as a certified adapter.

    The bound is the disintegrated PAC-Bayes-kl (Rivasplata et al. 2020; Viallard et al. 2024) for
    this one draw, on the train distribution and, with the shift term, on the test distribution. It
    is a claim of its own at 1 - δ, beside the Gibbs bounds of ``certificate``: whoever quotes both
    pays twice.

    Args:
        certificate: A bound whose posterior lives on LoRA factors.
        directory: Where to write; must not exist or be empty.
        dtype: The dtype to deploy in; None: that of the finished adapter's file.
        declared_draws: How many draws were declared before the first was made from this
            fine-tune; each then gets an equal share of δ. None: what its count says, or an
            undeclared number.
        seed: Seed of the draw; None: that of the certificate. Every new seed is a new draw.

    Returns:
        The content of ``certificate.json``.

    Raises:
        InputError: If no adapter can be drawn, ``directory`` holds something, or more draws are
            asked for than were declared.
    """
    inputs, options, fitted = certificate.inputs, certificate.options, certificate.fitted
    directory = directory.resolve()
    refuse_early(inputs.finetuned, directory, inputs.pair.space, dtype, declared_draws)
    dtype = dtype or _stored_dtype(inputs.finetuned)
    with _whole(directory) as partial:
        save_gaussian(fitted.posterior, partial / POSTERIOR)
        save_gaussian(fitted.prior, partial / PRIOR)
        shutil.copyfile(inputs.finetuned / CONFIG, partial / CONFIG)
        posterior = read_gaussian(partial / POSTERIOR)
        event = event_of(
            {
                "posterior": sha256_of(partial / POSTERIOR),
                "prior": sha256_of(partial / PRIOR),
                "adapter_config": config_sha256(partial / CONFIG),
                "base": inputs.base_sha256,
            },
            rows_sha256(inputs.certified),
            sigmas=options.prior_scales,
            loss=options.loss.value,
            seed=options.seed if seed is None else seed,
            deployed=dtype,
            evaluated=options.dtype,
        )

        # the draw: from a posterior that is frozen, by a generator that fitted nothing
        draw = draw_from(posterior, event)
        save_file(draw, str(partial / DRAW))
        _write_rounded(draw, dtype, partial / ADAPTER)
        # counted before its risk is known, or a disappointing draw could be dropped for nothing
        number = count_draw(inputs.finetuned, event, declared_draws)

        # what is deployed is what is measured; what was drawn is what is paid for
        tables = [t for t in (inputs.certified, inputs.test, inputs.heldout) if t is not None]
        losses = deployed_losses(inputs.base, partial, tables, options)
        write_units(inputs.certified, losses[0], partial / UNITS)
        ratio = log_ratio(
            draw, posterior, fitted.prior, options.prior_scales, certificate.kl.assumptions
        )
        spent = spends_delta(method_for(inputs.train, inputs.test, options.shift))
        shift_delta = certificate.leaves.shift if spent else 0.0
        made = claim(
            float(losses[0].mean()),
            ratio,
            inputs.n,
            options.delta,
            certificate.shift.tv,
            shift_delta,
            number,
        )
        evidence = Evidence(event, number, shift_delta, ratio, made, hashes_of(partial), losses)
        record = to_record(certificate, evidence)
        (partial / CERTIFICATE).write_text(as_json(record), encoding="utf-8")
        (partial / CARD).write_text(model_card(record), encoding="utf-8")
    return record


def refuse_early(
    finetuned: Path,
    directory: Path,
    space: Space | None,
    dtype: str | None,
    declared_draws: int | None,
) -> None:
    """Refuse what can be seen before anything is computed.

    Raises:
        InputError: If ``directory`` holds something, a draw is no adapter, or the dtype or the
            declared number of draws cannot be.
    """
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise InputError(f"{directory}: not empty; give another --emit-adapter")
    if space is Space.WEIGHTS:
        raise InputError(
            f"{finetuned}: a draw in weights space has full rank and is no adapter; use --space "
            "factors"
        )
    if finetuned.is_dir() and not is_adapter(finetuned):
        raise InputError(
            f"{finetuned}: a full checkpoint; a draw around it has full rank and is no adapter, so "
            "fine-tune a LoRA adapter instead"
        )
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--emit-dtype {dtype}: must be one of {', '.join(DTYPES)}")
    if declared_draws is not None and declared_draws < 1:
        raise InputError(f"--declared-draws {declared_draws}: must be at least 1")
    agreed_number(finetuned, declared_draws)


@contextmanager
def _whole(directory: Path) -> Iterator[Path]:
    """Yield a directory beside the one asked for; it takes its place if the block ends well."""
    partial = directory.with_name(f".partial-{os.getpid()}-{directory.name}")
    try:
        (partial / FOLDER).mkdir(parents=True)
        yield partial
        if directory.is_dir():
            directory.rmdir()  # refuses, by design, what came to be in it meanwhile
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _stored_dtype(finetuned: Path) -> str:
    """Return the dtype of the finished adapter's file.

    Raises:
        InputError: If it holds several dtypes, or one that no draw can be deployed in.
    """
    layers = read_adapter(finetuned).layers.values()
    found = {str(t.dtype).removeprefix("torch.") for layer in layers for t in (layer.a, layer.b)}
    if len(found) != 1 or not found <= set(DTYPES):
        raise InputError(
            f"{finetuned / ADAPTER}: stored as {', '.join(sorted(found))}; say with --emit-dtype "
            "which dtype to deploy in"
        )
    return found.pop()


def _write_rounded(draw: dict[str, torch.Tensor], dtype: str, file: Path) -> None:
    tensors = rounded(draw, getattr(torch, dtype))
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise InputError(f"--emit-dtype {dtype}: the draw overflows it; use bfloat16 or float32")
    save_file(tensors, str(file), metadata={"format": "pt"})
