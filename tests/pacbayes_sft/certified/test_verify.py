"""A certificate that notices every change."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft.certified.card import certificate_sentence
from pacbayes_sft.certified.checks import check_weights
from pacbayes_sft.certified.record import VERSION
from pacbayes_sft.certified.rows import (
    find_rows,
    read_units,
    row_sha256,
    rows_sha256,
    write_units,
)
from pacbayes_sft.certified.verify import verify_adapter
from pacbayes_sft.cli import main
from pacbayes_sft.data.rows import Row, Table
from pacbayes_sft.errors import InputError

CERTIFICATE = "certificate/certificate.json"


def test_verify_passes_on_what_was_written(emitted, files):
    found = verify_adapter(emitted[0], files[0])
    assert found, found
    assert found.flips == 0
    assert found.claim == found.to_dict()["claim"] == certificate_sentence(emitted[1])


def test_a_vacuous_certificate_is_verified_as_one(emitted, files, monkeypatch, capsys):
    """The sentence stands beside the checks: a table of passes alone would read as a promise."""
    words = ["pacbayes-sft", "verify", str(emitted[0]), "--train", files[0]]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(
        "pacbayes_sft.certified.verify.certificate_sentence", lambda _: "Vacuous: nothing"
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0 and "Vacuous: nothing" in capsys.readouterr().out


def test_rows_are_known_by_what_they_hold(emitted, files, tmp_path):
    """Another order and further rows do not matter."""
    lines = Path(files[0]).read_text().splitlines()
    more = json.loads(lines[0]) | {"prompt": "x"}
    (tmp_path / "t.jsonl").write_text("\n".join([json.dumps(more), *reversed(lines)]))
    found = verify_adapter(emitted[0], str(tmp_path / "t.jsonl"))
    assert found and found.flips == 0


def change_tensor(file):
    tensors = load_file(file)
    name = sorted(k for k in tensors if not k.startswith("scale/"))[3]
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += 0.01
    save_file(tensors, file)


LOSSES = '"loss": 1.0', '"loss": 0.0'


def change_text(file):
    text = file.read_text()
    pattern, new = {
        "units.jsonl": LOSSES if LOSSES[0] in text else LOSSES[::-1],  # as the draw has it
        "adapter_config.json": ('"lora_alpha": 16', '"lora_alpha": 17'),
    }[file.name]
    assert pattern in text
    file.write_text(text.replace(pattern, new, 1))


def changed(value):
    """Lower a number, an Estimate or a flag."""
    if isinstance(value, dict):
        limits = {k: value[k] * 0.9 or 0.1 for k in ("value", "lower", "upper")}
        return value | limits  # consistently
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value[::-1]
    return value * 0.9 if isinstance(value, float) else 3


def change_number(file, *path):
    record = json.loads(file.read_text())
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = changed(place[path[-1]])
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("what", "fails"),
    [
        ("adapter_model.safetensors", "deployed weights"),
        ("certificate/draw.safetensors", "draw"),
        ("certificate/posterior.safetensors", "ln(dQ/dP)"),
        ("certificate/prior.safetensors", "ln(dQ/dP)"),
        ("certificate/units.jsonl", "empirical risk"),
        ("adapter_config.json", "SHA-256 of adapter config"),
        (("bound", "upper"), "bound, test distribution"),
        (("bound", "confidence"), "bound, test distribution"),
        (("bound", "value"), "bound, test distribution"),
        (("train_bound", "upper"), "bound, train distribution"),
        (("log_ratio",), "ln(dQ/dP)"),
        (("log_ratio", "value"), "ln(dQ/dP)"),
        (("empirical_risk",), "empirical risk"),
        (("delta",), "ledger"),
        (("delta_ledger", 0, "delta"), "ledger"),
        (("draw", "delta"), "charge of the draw"),
        (("draw", "declared"), "ledger"),
        (("draw", "k"), "charge of the draw"),
        (("draw", "seed"), "draw"),
        (("shift", "tv", "upper"), "bound"),
        (("shift", "tv"), "bound, test distribution"),
        (("prior", "sigma_grid", 0), "draw"),
        (("vacuous",), "bound, test distribution"),
        (("n",), "empirical risk"),
        (("hashes", "base"), "SHA-256 of base"),
        ("row", "certified rows"),
        ("missing", "certified rows"),
        ("answer", "certified rows"),
    ],
)
def test_every_change_is_noticed(what, fails, emitted, files, tmp_path, monkeypatch, capsys):
    directory = shutil.copytree(emitted[0], tmp_path / "changed")
    train = tmp_path / "train.jsonl"
    shutil.copy(files[0], train)
    lines = train.read_text().splitlines()
    if what == "missing":
        train.write_text("\n".join(lines[1:]))
    elif what in ("row", "answer"):
        row = json.loads(lines[5])
        row["completion" if what == "row" else "answer"] += "1"
        train.write_text("\n".join([*lines[:5], json.dumps(row), *lines[6:]]))
    elif isinstance(what, tuple):
        change_number(directory / CERTIFICATE, *what)
    elif what.endswith("safetensors"):
        change_tensor(directory / what)
    else:
        change_text(directory / what)
    words = ["pacbayes-sft", "verify", str(directory), "--train", str(train), "--json"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert fails in {check["name"] for check in checks if not check["passed"]}


def test_small_moves_of_every_entry_do_not_add_up_to_another_ratio(emitted, certificate):
    """Each is within what another machine's last bits may change, and all lower ln(dQ/dP)."""
    directory, record = emitted
    q, p = certificate.fitted.posterior, certificate.fitted.prior
    draw = load_file(directory / "certificate" / "draw.safetensors")
    stored = load_file(directory / "adapter_model.safetensors")
    moved = {}
    for name, theta in draw.items():
        sigma, scale = (torch.as_tensor(g.scale[name]) for g in (q, p))
        rises = (theta - p.mean[name]) / scale**2 - (theta - q.mean[name]) / sigma**2
        moved[name] = theta - 0.9e-4 * sigma * rises.sign()
    hashes = record["hashes"]
    for tensors, passes in ((draw, True), (moved, False)):
        found = check_weights(record, hashes, (tensors, stored), (q, p))
        (check,) = (c for c in found if c.name == "draw")
        assert check.passed is passes, check
    assert "that of the file" in check.remark


def test_rows_of_another_room_to_write_in_are_other_rows():
    """The loss `answer` is that of what fits in."""
    one, other = (Row("x", "y", attributes={"max_new_tokens": k}) for k in (8, 3000))
    assert row_sha256(one) != row_sha256(other)


def test_what_cannot_be_verified_is_bad_input(emitted, files, tmp_path):
    with pytest.raises(InputError, match="missing"):
        verify_adapter(tmp_path, files[0])
    directory = shutil.copytree(emitted[0], tmp_path / "x")
    (directory / "certificate" / "draw.safetensors").unlink()
    with pytest.raises(InputError, match=r"draw.safetensors: missing"):
        verify_adapter(directory, files[0])
    (directory / CERTIFICATE).write_text("{}")
    with pytest.raises(InputError, match="format None"):
        verify_adapter(directory, files[0])
    shutil.copytree(emitted[0], directory, dirs_exist_ok=True)
    (directory / CERTIFICATE).write_text(json.dumps({"version": VERSION}))
    with pytest.raises(InputError, match="not a certificate"):
        verify_adapter(directory, files[0])
    with pytest.raises(InputError, match="no such file"):
        verify_adapter(emitted[0], "gone.jsonl")


def test_units_of_several_rows_are_found_again_and_not_regrouped(tmp_path):
    def table(*rows):
        return Table("t", [Row(text, "y", unit=unit) for text, unit in rows], "")

    whole = table(("a", "u"), ("b", "v"), ("c", "u"), ("b", "w"))
    write_units(whole, [0.5, 0.0, 1.0], tmp_path / "units.jsonl")
    units = read_units(tmp_path / "units.jsonl")
    assert [(u.name, len(u.rows), u.loss) for u in units] == [
        ("u", 2, 0.5), ("v", 1, 0.0), ("w", 1, 1.0),
    ]  # fmt: skip
    moved = table(("b", "w"), ("c", "u"), ("x", "u"), ("b", "v"), ("a", "u"))
    for other in (whole, moved):
        assert rows_sha256(find_rows(other, units)[0]) == rows_sha256(whole)
    for split in (table(("a", "u"), ("b", "v"), ("c", "z"), ("b", "w")),
                  table(("a", "u"), ("b", "u"), ("c", "u"), ("b", "w"))):  # fmt: skip
        found, why = find_rows(split, units)
        assert found is None and "other units" in why
    assert find_rows(table(("a", "u"), ("b", "v"), ("c", "u")), units)[1].startswith("1 of 4")
