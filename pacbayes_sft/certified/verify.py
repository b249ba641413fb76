"""Recompute a certified adapter's certificate from its files: trust the files, not the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from estimators import (
    Estimate,
    disintegrated,
    load_gaussian,
    log_density_ratio_mixture,
    with_shift,
)
from pacbayes_sft.certified.deployed import deployed_losses
from pacbayes_sft.certified.draws import share_of_draw
from pacbayes_sft.certified.emit import (
    DRAW_EVENT,
    FOLDER,
    SHIFT_EVENT,
    mixture,
    rounded,
    table_sha256,
)
from pacbayes_sft.checkpoints.files import ADAPTER, open_checkpoint, read_json, sha256_of
from pacbayes_sft.data.rows import Table, read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import local_directory, resolve_base
from pacbayes_sft.options import Options

FLIPS = 0.001  # share of the units whose loss may differ on another machine (at least one unit)


@dataclass(frozen=True)
class Check:
    """One thing that was recomputed.

    Attributes:
        name: What.
        passed: Whether it is as the certificate says.
        remark: What was found.
    """

    name: str
    passed: bool
    remark: str


@dataclass(frozen=True)
class Verification:
    """All checks of one certified adapter; truthy when every one passed."""

    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        """Return whether all passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready object."""
        return {
            "verified": bool(self),
            "checks": [
                {"name": c.name, "passed": c.passed, "remark": c.remark} for c in self.checks
            ],
        }


def verify_adapter(
    directory: Path, train: str, *, base: str | None = None, device: str = "cpu"
) -> Verification:
    """Recompute the certificate of a certified adapter.

    Weights and rows are compared exactly; the risk may differ from the recorded one by at most
    max(1, 0.1 % of the units) changed losses, since another machine rounds logits otherwise.

    Args:
        directory: What `emit_adapter` wrote.
        train: The training rows.
        base: The base; None: where the certificate says it lies.
        device: Device to evaluate on.

    Raises:
        InputError: If a file is missing or unreadable.
    """
    record = read_json(directory / FOLDER / "certificate.json")
    try:
        return _verify(directory, record, read_table(train), base, device)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{directory / FOLDER / 'certificate.json'}: not a certificate ({error!r})"
        ) from None


def _verify(
    directory: Path, record: dict[str, Any], train: Table, base: str | None, device: str
) -> Verification:
    provenance = record["provenance"]
    source = resolve_base(base or provenance["base"]["source"])
    base_sha256 = open_checkpoint(local_directory(source)).sha256()
    checks = [
        Check("base", base_sha256 == provenance["base"]["sha256"], f"SHA-256 {base_sha256[:12]}…"),
        *_check_files(directory, record),
        *_check_numbers(directory, record),
    ]
    rows = _certified(train, provenance["train"]["certified_rows"])
    same = rows is not None and table_sha256(rows) == provenance["train"]["certified_sha256"]
    checks.append(Check("certified rows", same, f"{record['n']} units of {train.source}"))
    if rows is not None:
        checks.append(_check_risk(directory, record, rows, source, device))
    return Verification(tuple(checks))


def _check_files(directory: Path, record: dict[str, Any]) -> list[Check]:
    provenance, folder = record["provenance"], directory / FOLDER
    found = []
    for name, file in {
        "adapter": directory / ADAPTER,
        "draw": folder / "draw.safetensors",
        "posterior": folder / "posterior.safetensors",
        "prior": folder / "prior.safetensors",
    }.items():
        if not file.is_file():
            raise InputError(f"{file}: missing, so the certificate cannot be recomputed")
        digest = sha256_of(file)
        same = digest == provenance[f"{name}_sha256"]
        found.append(Check(f"{name} file", same, f"SHA-256 {digest[:12]}…"))
    expected = rounded(
        _tensors(folder / "draw.safetensors"), getattr(torch, record["deployed"]["dtype"])
    )
    stored = _tensors(directory / ADAPTER)
    same = expected.keys() == stored.keys() and all(
        stored[k].dtype == t.dtype and torch.equal(stored[k], t) for k, t in expected.items()
    )
    remark = f"the draw rounded to {record['deployed']['dtype']}, tensor by tensor"
    return [*found, Check("deployed weights", same, remark)]


def _check_numbers(directory: Path, record: dict[str, Any]) -> list[Check]:
    folder, delta = directory / FOLDER, record["delta"]
    posterior = load_gaussian(folder / "posterior.safetensors")
    prior = load_gaussian(folder / "prior.safetensors")
    ratio = log_density_ratio_mixture(
        _tensors(folder / "draw.safetensors"),
        posterior,
        mixture(prior, tuple(record["prior"]["sigma_grid"])),
    )
    stated = record["log_ratio"]["value"]
    ledger = {row["event"]: row["delta"] for row in record["delta_ledger"]}
    draw = record["draw"]
    left = delta - ledger.get(SHIFT_EVENT, 0.0)
    share = share_of_draw(left, draw["k"], draw["declared"])
    paid = (
        ledger.keys() <= {SHIFT_EVENT, DRAW_EVENT}
        and math.isclose(ledger[DRAW_EVENT], share, rel_tol=1e-9)
        and sum(ledger.values()) <= delta * (1 + 1e-9)
    )
    tv = Estimate.from_dict(record["shift"]["tv"])
    shift_paid = math.isclose(tv.delta, ledger.get(SHIFT_EVENT, 0.0), abs_tol=1e-12) or (
        tv.guarantee != "upper"
    )
    train_bound = disintegrated(record["empirical_risk"]["value"], ratio, record["n"], share)
    test_bound = with_shift(train_bound, tv)
    bounds = {"train_bound": train_bound, "bound": test_bound}
    agree = all(
        math.isclose(record[key]["upper"], made.upper, rel_tol=1e-9)
        and math.isclose(record[key]["confidence"], made.confidence, abs_tol=1e-9)
        and record[key]["guarantee"] == made.guarantee
        for key, made in bounds.items()
    )
    return [
        Check(
            "log density ratio",
            math.isclose(ratio, stated, rel_tol=1e-9, abs_tol=1e-6),
            f"{ratio:.6f} nats from the files, {stated:.6f} in the certificate",
        ),
        Check(
            "ledger",
            paid and shift_paid,
            f"draw {draw['k']} pays {share:.6f} of δ = {delta:g}",
        ),
        Check(
            "bound",
            agree,
            f"{test_bound.upper:.6f} recomputed, {record['bound']['upper']:.6f} in the certificate",
        ),
    ]


def _check_risk(
    directory: Path, record: dict[str, Any], rows: Table, base: str, device: str
) -> Check:
    how = record["evaluation"]
    options = Options(
        loss=record["loss"],
        device=device,
        dtype=how["dtype"],
        batch_size=how["batch_size"],
        max_length=how["max_length"],
    )
    (losses,) = deployed_losses(base, directory, [rows], options)
    flips = abs(float(losses.mean()) - record["empirical_risk"]["value"]) * len(losses)
    allowed = max(1.0, FLIPS * len(losses))
    return Check(
        "empirical risk",
        flips <= allowed + 1e-6 and len(losses) == record["n"],
        f"{losses.mean():.6f} on {len(losses)} units, {flips:.2f} losses away from the certificate "
        f"(allowed {allowed:g})",
    )


def _certified(train: Table, places: list[int]) -> Table | None:
    """Return the certified rows, or None if the file is too short to hold them."""
    if not places or max(places) >= len(train.rows):
        return None
    units = train.units
    return replace(train, rows=[replace(train.rows[i], unit=units[i]) for i in places])


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a readable safetensors file ({error})") from None
