"""Recipes on small local samples with the columns of the real data sets."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pacbayes_sft.answers import extract_answer, same_answer
from pacbayes_sft.cli import app
from pacbayes_sft.data.rows import read_table
from pacbayes_sft.errors import InputError
from pacbayes_sft.recipes import RECIPES, table_1, write_recipe
from pacbayes_sft.recipes import records as convert
from pacbayes_sft.recipes.write import HERE
from pacbayes_sft.scan.cells import list_cells
from pacbayes_sft.scan.config import Config
from pacbayes_sft.scan.config_file import read_config
from pacbayes_sft.scan.rows import write_rows
from tests.pacbayes_sft.recipes import samples


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny Llama whose tokens are letters and whose end of sequence is Qwen2.5-Math's."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    signs = ["<|endoftext|>", "<u>", *map(chr, range(32, 127)), "\n"]
    letters = Tokenizer(models.WordLevel({s: i for i, s in enumerate(signs)}, unk_token="<u>"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex(r"<\|endoftext\|>|[\s\S]"), "isolated")
    letters.decoder = decoders.Fuse()
    own = PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<|endoftext|>", unk_token="<u>"
    )
    own.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(signs), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    return str(folder)


def write(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


# --- records ---------------------------------------------------------------------------------


def test_openr1_takes_the_first_trace_that_is_complete_and_verified():
    record = samples.openr1(3, right=(False, True, True), complete=(True, False, True))
    row = convert.openr1(record)
    assert row["completion"] == record["generations"][2] and row["answer"] == "3"
    assert row["prompt"].startswith("<|im_start|>system\nPlease reason step by step")
    assert r"within \boxed{}." in row["prompt"] and row["prompt"].endswith("assistant\n")
    judged = samples.openr1(3, right=(False, False), complete=(True, True))
    assert convert.openr1(judged) is None
    assert convert.openr1(judged | {"correctness_llama": [False, True]}) is not None
    assert convert.openr1(samples.openr1(3, answer=" ")) is None
    none_said = samples.openr1(3) | {"correctness_math_verify": None}
    assert convert.openr1(none_said) is None


def test_openmath_keeps_extracted_answers_and_the_external_pass_rate():
    row = convert.openmath(samples.openmath(4, rate="0.25"))
    assert row["answer"] == "4" and row["pass_rate_72b_tir"] == 0.25
    assert "pass_rate_72b_tir" not in convert.openmath(samples.openmath(4, rate="n/a"))
    assert convert.openmath(samples.openmath(4, kind="converted_proof")) is None


@pytest.mark.parametrize(
    ("boxed", "letter"),
    [("B", "B"), (r"\text{C}", "C"), ("(D)", "D"), ("A: one", "A"), ("J", "J"),
     ("B. two", "B"), ("Beta", None), ("7", None), ("", None)],
)  # fmt: skip
def test_openscience_reads_the_letter_after_the_thinking(boxed, letter):
    row = convert.openscience(samples.openscience(1, boxed))
    assert (row and row["answer"]) == letter


def test_answers_of_test_rows_are_found_in_what_a_model_would_write():
    fraction = convert.math500(samples.math500(2))
    letter = convert.mmlu(samples.mmlu(1))
    for row, said, right in (
        (fraction, r"so we get $\boxed{\dfrac{2}{3}}$", True),
        (fraction, r"\boxed{2/3}", True),
        (fraction, r"\boxed{\frac{3}{2}}", False),
        (letter, r"4 is there, hence \boxed{B}", True),
        (letter, r"\boxed{\text{B}}", True),
        (letter, "The answer is (B).", True),
        (letter, r"\boxed{C}", False),
    ):
        found = extract_answer(said)
        assert found is not None and same_answer(row["answer"], found) is right, said
    assert "\nB: 4\n" in letter["prompt"] and letter["subject"] == "abstract_algebra"


def test_one_problem_is_one_unit_wherever_it_comes_from():
    same = samples.math500(1) | {"problem": "Compute  4."}
    assert convert.math500(same)["unit"] == convert.openmath(samples.openmath(4))["unit"]


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_a_configuration_that_is_one(name, tmp_path):
    text = (HERE / f"{name}.yaml").read_text()
    Config.model_validate(yaml.safe_load(text.replace("{out}", "x").replace("{base}", "strong")))
    if RECIPES[name].pool is not None:
        assert "Not yet run on a GPU" in text


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_paths_stand_in_a_configuration_as_they_are(name):
    """A quote ended the scalar, and a base in braces was taken for a place to fill in."""
    from pacbayes_sft.recipes.write import _configuration

    for odd in ('a "b" {base}', "it's {out}: #1", "c\\d\t\x85é😀", "x " * 200, "{base}"):
        text = _configuration(name, Path("/r") / odd, odd)
        config = Config.model_validate(yaml.safe_load(text))
        assert config.data.pool == f"/r/{odd}/pool.jsonl" and config.bases == (odd,)
        assert config.data.test == f"/r/{odd}/test.jsonl"
        template = (HERE / f"{name}.yaml").read_text()
        assert len(text.splitlines()) == len(template.splitlines())
        assert text.count("# ") >= template.count("# ") > 0  # its comments are kept


def test_what_is_there_is_not_overwritten(base, tmp_path):
    """An edited scan.yaml was lost, and so was a pool of other rows."""
    pool = write(tmp_path / "p.jsonl", [samples.openmath(i) for i in range(12)])
    test = write(tmp_path / "t.jsonl", [samples.math500(i) for i in range(3)])
    out, how = tmp_path / "o", {"pool": pool, "test": test, "base": base}
    write_recipe("openmath-math500", out, **how)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    write_recipe("openmath-math500", out, **how)  # the same again
    with pytest.raises(InputError, match=r"pool\.jsonl: is there already.*remove it, or give"):
        write_recipe("openmath-math500", out, **how, rows=5)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    edited = before["scan.yaml"] + b"# mine\n"
    (out / "scan.yaml").write_bytes(edited)
    (out / "pool.jsonl").unlink()
    with pytest.raises(InputError, match=r"scan\.yaml: is there already"):
        write_recipe("openmath-math500", out, **how)
    assert (out / "scan.yaml").read_bytes() == edited and not (out / "pool.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "pool", "test"),
    [
        ("openr1-math500", samples.openr1, samples.math500),
        ("openmath-math500", samples.openmath, samples.math500),
        ("openscience-mmlu", samples.openscience, samples.mmlu),
    ],
)
def test_a_recipe_from_local_copies_can_be_scanned(name, pool, test, base, tmp_path):
    from dataclasses import replace

    pool_file = write(tmp_path / "p.jsonl", [pool(i) for i in [*range(1, 31), 1, 200, 30_000]])
    test_file = write(tmp_path / "t.jsonl", [test(i) for i in range(1, 13)])
    out = tmp_path / "out"
    said = write_recipe(name, out, pool=pool_file, test=test_file, base=base)
    # row 1 comes twice (one solution a problem), the last is longer than the base reads
    assert said["pool"] == {"rows": 31, "too_long": 1} and said["test"]["rows"] == 12
    pool_rows = read_table(out / "pool.jsonl").rows
    thirds = [row.value_of("third") for row in pool_rows]
    assert sorted(map(thirds.count, (0, 1, 2))) == [10, 10, 11]
    longest = max(pool_rows, key=lambda row: row.difficulty)
    assert longest.value_of("third") == 2 and longest.difficulty == len(longest.completion) + 1
    config = read_config(out / "scan.yaml")
    cells = list_cells(config)
    assert {cell.window for cell in cells} == {"0:0", "1:1", "2:2"}
    data = config.data.model_copy(update={"heldout_rows": 2})
    sources = write_rows(data, replace(cells[0], size=5, window="1:1"), tmp_path)
    assert len(read_table(sources.train).rows) == 5


def test_a_solution_may_be_as_long_as_the_recipe_says(base, tmp_path):
    from pacbayes_sft.choices import Loss
    from pacbayes_sft.data.encode import encode
    from pacbayes_sft.generation import token_limit
    from pacbayes_sft.models import load_tokenizer
    from pacbayes_sft.terms import risk_term

    pool = write(tmp_path / "p.jsonl", [samples.openscience(i) for i in range(9)])
    test = write(tmp_path / "t.jsonl", [samples.mmlu(i) for i in range(4)])
    write_recipe("openscience-mmlu", tmp_path / "out", pool=pool, test=test, base=base)
    table = read_table(tmp_path / "out" / "test.jsonl")
    encoded = encode(table, load_tokenizer(base), None)
    assert {token_limit(row) for row in encoded} == {3072}  # not 17, by the letter's length
    lines = (tmp_path / "out" / "test.jsonl").read_text().splitlines()
    few = [json.loads(line) | {"max_new_tokens": 4} for line in lines]
    file = write(tmp_path / "few.jsonl", few)
    assert risk_term(base, str(file), loss=Loss.ANSWER).risk.value == 1.0  # a random model
    write(file, [few[0] | {"max_new_tokens": "many"}])
    with pytest.raises(InputError, match="row 1: 'max_new_tokens' is 'many'"):
        risk_term(base, str(file), loss=Loss.ANSWER)


def test_a_data_set_without_its_columns_is_named(base, tmp_path):
    record = samples.math500(1)
    del record["answer"]
    test = write(tmp_path / "t.jsonl", [record])
    pool = write(tmp_path / "p.jsonl", [samples.openr1(i) for i in range(5)])
    with pytest.raises(InputError, match="record 1: no column 'answer'; it has level"):
        write_recipe("openr1-math500", tmp_path / "o", pool=pool, test=test, base=base)
    for name, says in (("nothing", "there is none"), ("chain-sum", "makes its rows")):
        with pytest.raises(InputError, match=says):
            write_recipe(name, tmp_path / "o", pool=pool, base=base)
    with pytest.raises(InputError, match="no such file"):
        write_recipe("openr1-math500", tmp_path / "o", test=tmp_path / "x.jsonl", base=base)


def test_problems_of_the_test_are_left_out_of_the_pool(base, tmp_path):
    shared = samples.math500(1) | {"problem": "What is   3 + 0?"}
    pool = write(tmp_path / "p.jsonl", [samples.openr1(i) for i in range(1, 9)])
    test = write(tmp_path / "t.jsonl", [shared, samples.math500(2)])
    said = write_recipe("openr1-math500", tmp_path / "o", pool=pool, test=test, base=base)
    assert said["pool"]["rows"] == 7
    assert "uuid-3" not in {row.id for row in read_table(tmp_path / "o" / "pool.jsonl").rows}


def test_a_broken_local_copy_ends_in_a_sentence(base, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"problem": "a"\n')
    (tmp_path / "p.parquet").write_text("PAR1 no")
    for name in ("p.jsonl", "p.parquet"):
        with pytest.raises(InputError, match="cannot be loaded"):
            write_recipe("openr1-math500", tmp_path / "o", test=tmp_path / name, base=base)


@pytest.mark.parametrize(
    ("name", "side", "record"),
    [
        ("openr1-math500", "test", samples.math500(1) | {"level": "Level 5"}),
        ("openscience-mmlu", "test", samples.mmlu(1) | {"choices": ["a", "b", "c", "d", "e"]}),
        ("openscience-mmlu", "pool", samples.openscience(1) | {"output": None}),
    ],
)
def test_a_record_that_is_not_as_its_card_says_is_named(name, side, record, base, tmp_path):
    good = {
        "test": [samples.math500(2) if "math" in name.split("-")[1] else samples.mmlu(2)],
        "pool": [samples.openr1(3) if "openr1" in name else samples.openscience(3)],
    }
    good[side].append(record)
    files = {s: write(tmp_path / f"{s}.jsonl", records) for s, records in good.items()}
    with pytest.raises(InputError, match=rf"{side}\.jsonl, record 2: not as its card says"):
        write_recipe(name, tmp_path / "o", **files, base=base)


def test_rows_longer_than_the_base_reads_are_left_out_whatever_the_recipe_says(base, tmp_path):
    shape = json.loads((Path(base) / "config.json").read_text())
    small = tmp_path / "small"
    shutil.copytree(base, small)
    (small / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 3500}))
    pool = write(tmp_path / "p.jsonl", [samples.openr1(i) for i in (1, 2, 400)])  # 3,600 letters
    test = write(tmp_path / "t.jsonl", [samples.math500(1)])
    for name, rows in ((base, 3), (str(small), 2)):
        out = tmp_path / str(rows)
        said = write_recipe("openr1-math500", out, pool=pool, test=test, base=name)
        assert said["pool"] == {"rows": rows, "too_long": 3 - rows}


def test_generated_rows_have_disjoint_seeds_and_templates_as_units(base, tmp_path):
    pytest.importorskip("reasoning_gym")
    write_recipe("chain-sum", tmp_path / "sum", base=base, rows=200)
    pool, test = (read_table(tmp_path / "sum" / f"{side}.jsonl") for side in ("pool", "test"))
    assert {row.difficulty for row in pool.rows} == {2, 3, 4, 5, 6}
    long = [{r.prompt for r in table.rows if r.difficulty > 2} for table in (pool, test)]
    assert not long[0] & long[1]  # sums of two numbers can meet by chance
    write_recipe("gsm-symbolic", tmp_path / "gsm", base=base, rows=300)
    pool, test = (read_table(tmp_path / "gsm" / f"{side}.jsonl") for side in ("pool", "test"))
    of_unit: dict[str, set] = {}
    for row in (*pool.rows, *test.rows):
        of_unit.setdefault(row.unit, set()).add(row.value_of("third"))
    assert 30 < len(of_unit) <= 85 and all(len(thirds) == 1 for thirds in of_unit.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain-sum", "gsm-symbolic"])
def test_a_cell_of_a_generated_recipe_for_real(name, base, tmp_path):
    pytest.importorskip("reasoning_gym")
    from pacbayes_sft.scan.run import run_scan
    from pacbayes_sft.scan.where import Where

    write_recipe(name, tmp_path / "r", base=base, rows=200)
    content = yaml.safe_load((tmp_path / "r" / "scan.yaml").read_text())
    content |= {"windows": content["windows"][:1], "sizes": [4], "seeds": [0], "dtype": "float32"}
    content["data"]["heldout_rows"] = 2
    content["fine_tune"] |= {"least_steps": 2, "epochs": 0.01}
    records = run_scan(Config.model_validate(content), tmp_path / "map", Where(threads=1))
    found = records[1]["bounds"]["isotropic"]
    assert found["n"] == 4 and found["bounds"]["proposition_4_1"]["vacuous"]
    assert len(records[1]["measured"]["slices"]) >= 3


def test_table_1_shows_the_papers_figures_beside_the_measured():
    def record(window, risk, seed=0, size=5):
        cell = {"size": size, "window": window, "seed": seed}
        return {"cell": cell, "measured": {"test_risk": {"value": risk}}}

    found = table_1({
        "openr1-math500": [
            {"base": "b"}, record("0:0", 0.4), record("0:0", 0.6, seed=1), record("1:1", 0.2),
            record("1:1", 0.9, size=2),
        ],
        "openmath-math500": [],
    })  # fmt: skip
    assert found.loc[("openr1-math500", "paper")].tolist() == [61.1, 68.3, 61.7]
    mine = found.loc[("openr1-math500", "measured, n = 5")]
    assert mine["easy"] == pytest.approx(50) and mine["medium"] == pytest.approx(80)
    assert mine.isna()["hard"] and len(found) == 3


def test_the_command_lists_and_writes(base, tmp_path):
    listed = json.loads(CliRunner().invoke(app, ["recipe", "--json"]).stdout)
    assert set(listed) == set(RECIPES)
    pool = write(tmp_path / "p.jsonl", [samples.openmath(i) for i in range(12)])
    test = write(tmp_path / "t.jsonl", [samples.math500(i) for i in range(3)])
    words = ["recipe", "openmath-math500", "--pool", str(pool), "--test", str(test)]
    run = CliRunner().invoke(app, [*words, "--base", base, "--out", str(tmp_path / "o"), "--json"])
    assert json.loads(run.stdout)["pool"]["rows"] == 12
    assert (tmp_path / "o" / "scan.yaml").exists()
