"""A certificate that notices every change."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pacbayes_sft.certified.card import certificate_sentence
from pacbayes_sft.certified.checks import check_weights
from pacbayes_sft.certified.files import config_sha256
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
    assert found.claim == found.to_dict()["claim"]
    assert found.claim == certificate_sentence(emitted[1]).replace("**", "")


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


@pytest.mark.parametrize(
    "what", ["card", "metadata", "predictor", "merged", "target", "lower", "assumptions", "stated"]
)
def test_words_that_promise_more_are_noticed(what, emitted, files, tmp_path):
    directory = shutil.copytree(emitted[0], tmp_path / "changed")
    record = json.loads((directory / CERTIFICATE).read_text())
    card = directory / "README.md"
    if what == "card":
        said = f"| {record['n']:,} training units |"
        assert said.strip("| ") in card.read_text()
        number = f"{record['empirical_risk']['value']:.4f} (exact)"
        card.write_text(card.read_text().replace(number, "0.0001 (exact)"))
    elif what == "metadata":
        value = f"value: {record['measured']['test_risk']['value']}"
        assert value in card.read_text()
        card.write_text(card.read_text().replace(value, "value: 0.001"))
    elif what == "target":
        record["target"] = "train_distribution"
    elif what == "lower":
        record["bound"]["lower"] = 0.5
    elif what == "predictor":
        record["predictor"] = "finished"
    elif what == "merged":
        record["deployed"]["merged"] = True
    elif what == "assumptions":
        record["assumptions"] = []
    else:
        record["train_bound"]["assumptions"] = record["train_bound"]["assumptions"][1:]
    (directory / CERTIFICATE).write_text(json.dumps(record))
    found = verify_adapter(directory, files[0])
    failed = {check.name for check in found.checks if not check.passed}
    assert failed & {"model card", "bound, test distribution", "bound, train distribution"}


def test_a_card_may_say_more(emitted, files, tmp_path):
    directory = shutil.copytree(emitted[0], tmp_path / "more")
    card = directory / "README.md"
    card.write_text(card.read_text() + "\n## Licence\n\nMIT\n")
    assert verify_adapter(directory, files[0])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("units.jsonl", ""),
        ("units.jsonl", '{"unit": "u", "rows": [], "loss": 0.0}\n'),
        ("units.jsonl", '{"unit": "u", "rows": ["x"], "loss": 7.0}\n'),
        ("certificate.json", ("n", 10**400)),
        ("certificate.json", ("draw", "seed", float("inf"))),
        ("certificate.json", ("evaluation", "batch_size", 64.0)),
        ("certificate.json", ("evaluation", "dtype", "bits8")),
        ("certificate.json", ("log_ratio", "null_reason", {"value": "x"})),
    ],
)
def test_damaged_files_are_bad_input_or_a_failed_check(file, content, emitted, files, tmp_path):
    directory = shutil.copytree(emitted[0], tmp_path / "x")
    if isinstance(content, str):
        (directory / "certificate" / file).write_text(content)
    else:
        record = json.loads((directory / CERTIFICATE).read_text())
        place = record
        for key in content[:-2]:
            place = place[key]
        place[content[-2]] = content[-1]
        (directory / CERTIFICATE).write_text(json.dumps(record))
    try:
        found = verify_adapter(directory, files[0])
    except InputError as error:
        assert file in str(error)
    else:
        assert file == "certificate.json" and (not found or content[0] == "log_ratio")


@pytest.mark.parametrize("name", ["certificate/draw.safetensors", "adapter_model.safetensors"])
@pytest.mark.parametrize("how", ["nan", "dropped", "added"])
def test_broken_weights_fail_their_check(how, name, emitted, files, tmp_path, monkeypatch, capsys):
    """Exit code 1, as for any change, and not bad input in the certificate's name."""
    directory = shutil.copytree(emitted[0], tmp_path / "x")
    tensors = load_file(directory / name)
    one = sorted(tensors)[0]
    if how == "nan":
        tensors[one].view(-1)[0] = float("nan")
    elif how == "dropped":
        del tensors[one]
    else:
        tensors["more"] = torch.zeros(2)
    save_file(tensors, directory / name)
    monkeypatch.setattr("sys.argv", ["pacbayes-sft", "verify", str(directory), "--train", files[0]])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1 and "SHA-256" in capsys.readouterr().out


def test_the_order_of_patterns_is_part_of_the_settings(tmp_path):
    """The first pattern that fits a module counts."""
    patterns = {".*proj": 3, "q_proj": 5}
    hashes = set()
    for items in (patterns, dict(reversed(patterns.items()))):
        (tmp_path / "c.json").write_text(json.dumps({"alpha_pattern": items, "r": 2}))
        hashes.add(config_sha256(tmp_path / "c.json"))
    assert len(hashes) == 2
