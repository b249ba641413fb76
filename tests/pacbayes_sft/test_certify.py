"""The whole path on the shipped base, and what a record must and must not allow."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from estimators import Estimate, Guarantee, catoni_grid, kl_bound, mcallester, recursive_bound
from estimators.display import rounded_up
from estimators.posteriors.refined import Schedule
from pacbayes_sft.baselines import best_of
from pacbayes_sft.bound_json import to_record, write_bound_json
from pacbayes_sft.certify import _at_ledger, bound, named_in_advance
from pacbayes_sft.charges import open_ledger
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.finetune import squared_distance
from pacbayes_sft.checkpoints.record import RUN
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError
from pacbayes_sft.igsm import OpLaw
from pacbayes_sft.igsm.files import write_problems
from pacbayes_sft.inputs import load_inputs
from pacbayes_sft.models import resolve_base
from pacbayes_sft.options import Options
from pacbayes_sft.plots import plot_bound
from pacbayes_sft.posteriors import Refinement
from pacbayes_sft.report import certificate_sentence
from pacbayes_sft.report.sentence import sentence
from pacbayes_sft.report.tables import tables
from pacbayes_sft.scan.measure import CUT_BY_ROWS, _estimated, _weakened
from pacbayes_sft.terms import risk_term
from pacbayes_sft.unseen import ORDER_ON_RECORD

PLAIN = Options(posterior="isotropic", prior_scales=(0.05,), draws=1)


@pytest.fixture(scope="module")
def files(rows_dir):
    return str(rows_dir / "train.jsonl"), str(rows_dir / "test.jsonl")


@pytest.fixture(scope="module")
def few(files, tmp_path_factory):
    """The first rows of both files, for what looks at no count."""
    folder = tmp_path_factory.mktemp("few")
    for file in map(Path, files):
        rows = file.read_text().splitlines(True)
        (folder / file.name).write_text("".join(rows[:24]))
    return tuple(str(folder / Path(file).name) for file in files)


@pytest.fixture(scope="module")
def certificate(lora_run, files, rows_dir):
    return bound(
        "strong",
        lora_run,
        *files,
        replace(PLAIN, prior_scales=(0.01, 0.05, 0.2)),
        train_heldout=str(rows_dir / "heldout.jsonl"),
    )


def test_every_number_follows_from_the_terms(certificate):
    record = to_record(certificate)
    terms, kl = record["terms"], record["kl"]["value"]
    n, leaf = record["n"], certificate.leaves.theorem
    assert n == 64 and record["n_train"] == 64 and record["n_prior"] == 0
    assert terms["generalization"] == pytest.approx(math.sqrt(kl / (2 * n)))
    assert terms["epsilon"] == pytest.approx(math.sqrt(math.log(2 * math.sqrt(n) / leaf) / 2 / n))
    assert terms["extrapolation"] == pytest.approx(record["tv"]["value"]) == pytest.approx(1 / 3)
    assert sum(terms.values()) == pytest.approx(record["bounds"]["proposition_4_1"]["raw"])
    risk = certificate.empirical_risk
    assert terms["empirical_risk"] == risk.upper >= risk.value
    expected = kl_bound(risk.upper, kl, n, leaf).upper
    assert record["bounds"]["kl"]["train_raw"] == expected
    assert record["bounds"]["mcallester"]["train_raw"] == mcallester(risk.upper, kl, n, leaf).upper
    sigma = record["posterior"]["sigma"]
    assert kl == pytest.approx(record["squared_distance"] / (2 * sigma**2))


def test_the_ledger_holds_every_charge(certificate):
    record = to_record(certificate)
    ledger = {row["event"]: row["delta"] for row in record["delta_ledger"]}
    assert sum(ledger.values()) <= record["delta"]
    leaves = [delta for event, delta in ledger.items() if event.startswith("PAC-Bayes")]
    assert leaves == [record["bounds"]["kl"]["delta"]] * 3
    assert record["bound"]["confidence"] == pytest.approx(1 - record["delta"], abs=1e-9)
    assert all(b["confidence"] == record["bound"]["confidence"] for b in record["bounds"].values())
    assert certificate.bound.guarantee is Guarantee.UPPER


def test_stable_keys(certificate):
    record = to_record(certificate)
    assert {
        "n",
        "n_train",
        "n_prior",
        "delta",
        "delta_ledger",
        "loss",
        "predictor",
        "empirical_risk",
        "kl",
        "tv",
        "terms",
        "bound",
        "bounds",
        "measured",
        "baselines",
        "drift",
        "assumptions",
        "warnings",
        "provenance",
        "version",
    } <= record.keys()
    names = ("proposition_4_1", "mcallester", "kl", "quadratic", "lambda", "catoni", "recursive")
    for name in names:
        entry = record["bounds"][name]
        assert {
            "value",
            "raw",
            "train_value",
            "vacuous",
            "guarantee",
            "delta",
            "predictor",
        } <= entry.keys()
        assert entry["value"] == min(1.0, entry["raw"])
        assert entry["vacuous"] == (entry["raw"] >= 1)
    gaps = record["measured"]
    assert gaps["generalization_gap"]["value"] + gaps["extrapolation_gap"]["value"] == (
        pytest.approx(gaps["test_risk"]["value"] - record["empirical_risk"]["value"])
    )


def test_what_a_reader_must_know_is_said(certificate):
    record = to_record(certificate)
    assert record["bounds"]["proposition_4_1"]["vacuous"]
    assert any("vacuous" in w and "proposition_4_1" in w for w in record["warnings"])
    assert any("not covered" in w for w in record["warnings"])
    assert any("did not depend on the training rows" in a for a in record["assumptions"])
    assert named_in_advance(certificate.options) in record["assumptions"]
    for on_test, on_train in certificate.bounds.values():
        assert named_in_advance(certificate.options) in on_test.assumptions
        assert named_in_advance(certificate.options) in on_train.assumptions
    assert "gets most" not in named_in_advance(PLAIN)
    assert "that kl gets most of δ" in named_in_advance(replace(PLAIN, theorem="kl"))
    assert record["provenance"]["theorem"] == "auto"
    assert record["measured"]["test_risk"]["predictor"] == "gibbs"
    assert record["measured"]["test_risk_finetuned"]["predictor"] == "finished"


def test_each_leaf_is_spent_on_its_own_event(certificate):
    ledger = {row["event"]: row["delta"] for row in to_record(certificate)["delta_ledger"]}
    on_risk, on_excess = (d for event, d in ledger.items() if event.startswith("Monte Carlo"))
    assert certificate.empirical_risk.delta == pytest.approx(on_risk)
    assert certificate.excess.delta == pytest.approx(on_excess)
    assert certificate.shift.tv.delta == 0


def test_the_recursive_bound_follows_from_its_parts(certificate):
    record, leaves = to_record(certificate), certificate.leaves
    ledger = {row["event"]: row["delta"] for row in record["delta_ledger"]}
    spent = [d for event, d in ledger.items() if event.startswith("recursive")]
    assert spent == [record["bounds"]["recursive"]["delta"]] * 3
    assert certificate.reference.delta == pytest.approx(leaves.reference)
    assert certificate.excess.delta == pytest.approx(leaves.excess)
    centre = certificate.baselines["prior_centre"].on_train
    assert certificate.reference.value == centre.value
    assert certificate.reference.upper > centre.upper  # δ of a leaf, not the whole
    expected = recursive_bound(
        certificate.reference, certificate.excess, certificate.kl, record["n"], leaves.recursive
    )
    assert record["bounds"]["recursive"]["train_raw"] == expected.upper
    risk, excess = certificate.empirical_risk, certificate.excess
    assert risk.value == pytest.approx(centre.value + excess.value)


@pytest.mark.parametrize("theorem", ["kl", "catoni", "recursive"])
def test_a_theorem_named_in_advance_gets_most_of_delta(certificate, lora_run, files, theorem):
    inputs = certificate.inputs
    named_ledger, named = open_ledger(inputs, replace(certificate.options, theorem=theorem))
    auto_ledger, auto = open_ledger(inputs, certificate.options)
    assert named_ledger.spent == pytest.approx(auto_ledger.spent) == pytest.approx(0.05)
    others = {"kl", "catoni", "recursive"} - {theorem}
    grown = {"kl": 2, "catoni": 2, "recursive": 0.99}  # of the last the reference's share grows
    assert named.of(theorem) > grown[theorem] * auto.of(theorem)
    assert all(named.of(other) < auto.of(other) for other in others)
    assert (named.reference > 1.5 * auto.reference) is (theorem == "recursive")


def test_a_theorem_that_spent_more_than_the_ledger_is_caught(certificate):
    greedy = kl_bound(0.3, 1.0, 100, 0.9)
    with pytest.raises(AssertionError, match="the ledger"):
        _at_ledger(greedy, certificate.ledger)


def test_windows_cut_at_the_rows_own_quantiles_give_estimates(certificate):
    """What a scan says of them; a TV of known laws counts no row and stays."""
    assert _weakened(certificate) == certificate  # exact
    tv = replace(certificate.shift.tv, guarantee="upper", confidence=0.99)
    weak = _weakened(replace(certificate, shift=replace(certificate.shift, tv=tv)))
    assert weak.shift.tv.guarantee == "estimate" and CUT_BY_ROWS in weak.shift.tv.assumptions
    for on_test, on_train in weak.bounds.values():
        assert (on_test.guarantee, on_test.confidence) == ("estimate", 0.0)
        assert on_train.guarantee == "upper"
    term = tv.to_dict()
    assert _estimated(term)["guarantee"] == "estimate"
    assert _estimated(term | {"guarantee": "exact"}) == term | {"guarantee": "exact"}


def test_files_are_written_whole(certificate, tmp_path):
    write_bound_json(certificate, tmp_path / "bound.json")
    plot_bound(certificate, tmp_path / "bound.png")
    assert json.loads((tmp_path / "bound.json").read_text())["version"] == 1
    assert (tmp_path / "bound.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bound.json", "bound.png"]


@pytest.mark.parametrize("lacks", [None, "recursive"])
def test_a_picture_rounds_limits_up(lacks, certificate, tmp_path, monkeypatch):
    """Without the recursive bound too, which a sample of the units leaves out."""
    from matplotlib.axes import Axes

    drawn, text = [], Axes.text
    monkeypatch.setattr(Axes, "text", lambda *a, **k: drawn.append(str(a[3])) or text(*a, **k))
    bounds = {name: pair for name, pair in certificate.bounds.items() if name != lacks}
    plot_bound(replace(certificate, bounds=bounds), tmp_path / "bound.png")
    for on_test, _ in bounds.values():
        assert any(rounded_up(on_test.upper, 3) in line for line in drawn)


def test_the_same_seed_gives_the_same_certificate(tiny_base, small_run, files, rows_dir):
    options, held = replace(PLAIN, prior_scales=(0.01, 0.05, 0.2)), str(rows_dir / "heldout.jsonl")
    one, again = (
        to_record(bound(str(tiny_base), small_run, *files, options, train_heldout=held))
        for _ in range(2)
    )
    assert one == again


def test_a_checkpoint_prior_counts_only_the_rows_it_never_saw(tiny_base, small_run, files):
    prior = small_run / "pacbayes_sft" / "prior"
    certificate = bound(str(tiny_base), small_run, *files, replace(PLAIN, prior=prior))
    record = to_record(certificate)
    assert (record["n"], record["n_train"], record["n_prior"]) == (32, 64, 32)
    order = certificate.inputs.record.order
    kept = {certificate.inputs.train.rows[i].prompt for i in order[32:]}
    assert {row.prompt for row in certificate.inputs.certified.rows} == kept
    assert any("saw only the first m rows" in a for a in record["assumptions"])
    assert record["provenance"]["saw"]["prior"] == "the first rows of the recorded order"
    declared = replace(PLAIN, prior=small_run, prior_train="seen.jsonl")
    assert (
        "declared with --prior-train, not on record"
        in to_record(replace(certificate, options=declared))["provenance"]["saw"]["prior"]
    )


def test_the_finished_weights_are_no_prior_wherever_they_lie(lora_run, files, tmp_path):
    copy = shutil.copytree(
        lora_run, tmp_path / "copy", ignore=shutil.ignore_patterns("pacbayes_sft")
    )
    seen = tmp_path / "seen.jsonl"
    seen.write_text("\n".join(Path(files[0]).read_text().splitlines()[:4]))
    with pytest.raises(InputError, match="holds the very weights of"):
        load_inputs("strong", lora_run, *files, prior=copy, prior_train=str(seen))


def test_a_prior_without_a_record_is_refused(lora_run, files, rows_dir, tmp_path):
    stray = shutil.copytree(lora_run / "pacbayes_sft" / "prior", tmp_path / "stray")
    with pytest.raises(InputError, match="not on record"):
        load_inputs("strong", lora_run, *files, prior=stray)
    with pytest.raises(InputError, match="nothing is left"):
        load_inputs("strong", lora_run, *files, prior=stray, prior_train=files[0])
    lines = Path(files[0]).read_text().splitlines()
    (tmp_path / "seen.jsonl").write_text("\n".join(lines[:30]))
    inputs = load_inputs(
        "strong", lora_run, *files, prior=stray, prior_train=str(tmp_path / "seen.jsonl")
    )
    assert inputs.n == 34


def test_a_checkpoint_prior_needs_the_recorded_rows(lora_run, files, tmp_path):
    other = tmp_path / "other.jsonl"
    write_problems(other, OpLaw.uniform(2, 4), size=20, seed=8)
    prior = lora_run / "pacbayes_sft" / "prior"
    with pytest.raises(InputError, match="not the file that"):
        load_inputs("strong", lora_run, str(other), files[1], prior=prior)
    assert load_inputs("strong", lora_run, str(other), files[1]).warnings


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_dense_posteriors_go_through(kind, tiny_base, small_run, full_run, few):
    base, run = (str(tiny_base), small_run) if kind == "lora" else ("strong", full_run)
    options = Options(
        posterior="isotropic", space="weights", prior_scales=(0.01,), loss="token_error"
    )
    certificate = bound(base, run, *few, options)
    distance, _ = squared_distance(open_checkpoint(Path(resolve_base(base))), run, "weights")
    assert certificate.kl.value == pytest.approx(distance / (2 * 0.01**2), rel=1e-4)
    assert "draws" in certificate.measured.test_risk.method
    gibbs = certificate.measured.test_risk
    assert 0 <= gibbs.lower <= gibbs.value <= gibbs.upper and gibbs.confidence == 0.95
    assert gibbs.value < 0.02 or gibbs.lower > 0  # a violation of a bound could be seen


def test_initial_factors_are_no_prior_in_weights_space(small_run, tiny_base, files):
    with pytest.raises(InputError, match="--prior initial means the initial factors of a LoRA"):
        load_inputs(str(tiny_base), small_run, *files, prior="initial", space=Space.WEIGHTS)
    inputs = load_inputs(str(tiny_base), small_run, *files, prior="initial")
    assert inputs.pair.prior_source == "the base and the saved initial factors"


def test_a_full_checkpoint_has_no_factors(full_run, files):
    with pytest.raises(InputError, match="no factors"):
        load_inputs("strong", full_run, *files, space=Space.FACTORS)


def test_a_small_sigma_recovers_the_finished_model(tiny_base, small_run, files):
    options = replace(PLAIN, prior_scales=(1e-7,), baselines=False, loss="token_error")
    certificate = bound(str(tiny_base), small_run, *files, options)
    measured = certificate.measured
    assert certificate.empirical_risk.value == pytest.approx(
        measured.train_risk_finetuned.value, abs=0.011
    )
    assert measured.test_risk.value == pytest.approx(measured.test_risk_finetuned.value, abs=0.016)


@pytest.mark.parametrize(
    "bad",
    [
        {"delta": 0.0},
        {"delta": 1.0},
        {"prior_scales": ()},
        {"prior_scales": (0.1, -1.0)},
        {"draws": 0},
        {"batch_size": 0},
    ],
)
def test_options_that_mean_nothing(bad):
    with pytest.raises(InputError):
        Options(**bad)


def test_a_certificate_names_the_files_as_they_were_read(tiny_base, small_run, files, tmp_path):
    """The hashes are taken on reading: writing it later needs no file and cannot be fooled."""
    copy = shutil.copytree(small_run, tmp_path / "copy")
    certificate = bound(str(tiny_base), copy, *files, PLAIN)
    before = to_record(certificate)["provenance"]["finetuned"]["sha256"]
    shutil.rmtree(copy)
    assert to_record(certificate)["provenance"]["finetuned"]["sha256"] == before


def test_the_record_decides_which_rows_a_recorded_prior_saw(lora_run, files, rows_dir):
    kept = lora_run / "pacbayes_sft" / "prior"
    unrelated = str(rows_dir / "heldout.jsonl")
    assert load_inputs("strong", lora_run, *files, prior=kept, prior_train=unrelated).n == 32
    with pytest.raises(InputError, match="its own prior"):
        load_inputs("strong", lora_run, *files, prior=lora_run, prior_train=unrelated)


def test_an_unrecorded_prior_taints_units_not_only_texts(lora_run, files, tmp_path):
    stray = shutil.copytree(lora_run / "pacbayes_sft" / "prior", tmp_path / "stray")
    rows = [json.loads(line) for line in Path(files[0]).read_text().splitlines()][:40]
    edited = [row | {"prompt": row["prompt"] + " "} for row in rows]
    (tmp_path / "seen.jsonl").write_text("\n".join(map(json.dumps, edited)))
    seen = str(tmp_path / "seen.jsonl")
    assert load_inputs("strong", lora_run, *files, prior=stray, prior_train=seen).n == 24
    none = load_inputs("strong", lora_run, *files, prior=stray, prior_train=files[1])
    assert any("make sure it lists" in w for w in none.warnings)


def test_a_checkpoint_prior_still_rests_on_the_base(lora_run, files):
    inputs = load_inputs("strong", lora_run, *files, prior=lora_run / "pacbayes_sft" / "prior")
    assert any("base model did not depend" in sentence for sentence in inputs.pair.assumptions)
    assert ORDER_ON_RECORD in inputs.pair.assumptions  # `sft` shuffled by seed


@pytest.mark.parametrize("part", ["initial", "prior"])
def test_a_prior_changed_after_the_run_is_refused(part, lora_run, files, tmp_path):
    run = shutil.copytree(lora_run, tmp_path / "run")
    shutil.copy(run / "adapter_model.safetensors", run / "pacbayes_sft" / part)
    with pytest.raises(InputError, match="not the weights that the run record names"):
        load_inputs("strong", run, *files)


def test_initial_factors_that_change_the_base_are_no_prior(lora_run, files, tmp_path):
    """They had been trained before the run that kept them, on rows that nobody recorded."""
    run = shutil.copytree(lora_run, tmp_path / "run")
    kept = run / "pacbayes_sft" / "initial" / "adapter_model.safetensors"
    save_file({k: t + 0.01 for k, t in load_file(kept).items()}, kept)
    (run / "pacbayes_sft" / "run.json").unlink()
    with pytest.raises(InputError, match="trained before that run"):
        load_inputs("strong", run, *files)


@pytest.mark.parametrize("order", [list(range(32)) * 2, [*range(63), 999]])
def test_an_order_that_is_no_permutation_is_refused(order, lora_run, files, tmp_path):
    run = shutil.copytree(lora_run, tmp_path / "run")
    record = json.loads((run / "pacbayes_sft" / RUN).read_text()) | {"order": order}
    (run / "pacbayes_sft" / RUN).write_text(json.dumps(record))
    with pytest.raises(InputError, match="order names a row twice"):
        load_inputs("strong", run, *files)


def test_held_out_rows_that_are_training_rows_are_noticed(lora_run, files, tmp_path):
    with pytest.raises(InputError, match="one seed and one law"):
        load_inputs("strong", lora_run, *files, heldout=files[0])
    shutil.copy(files[0], tmp_path / "copy.jsonl")
    inputs = load_inputs("strong", lora_run, *files, heldout=str(tmp_path / "copy.jsonl"))
    assert any("64 rows of" in w and "stand in both" in w for w in inputs.warnings)


def test_without_attribute_or_law_the_bound_is_an_estimate(tiny_base, small_run, files, tmp_path):
    bare = []
    for source, name in zip(files, ("a", "b"), strict=True):
        rows = [json.loads(line) for line in Path(source).read_text().splitlines()]
        for row in rows:
            del row["difficulty"]
        bare.append(tmp_path / f"{name}.jsonl")
        bare[-1].write_text("\n".join(map(json.dumps, rows)))
    record = to_record(bound(str(tiny_base), small_run, *map(str, bare), PLAIN))
    assert record["bound"]["guarantee"] == "estimate" and record["bound"]["confidence"] == 0
    assert any("only estimated" in w for w in record["warnings"])
    assert not any("the shift term is 1" in w for w in record["warnings"])


@pytest.fixture(scope="module")
def refined(lora_run, few):
    refinement = Refinement(Schedule(steps=8), batch_size=8)
    options = Options(
        posterior="refined", refinement=refinement, prior_scales=(0.02, 0.05), draws=1
    )
    return bound("strong", lora_run, *few, options)


def test_refining_lowers_the_bound_and_its_drift_is_said(refined, lora_run, few):
    sigma = refined.fitted.sigma
    alone = replace(PLAIN, prior_scales=(sigma,), baselines=False)
    plain = bound("strong", lora_run, *few, alone)
    assert refined.kl.value < plain.kl.value
    assert refined.terms.bound.upper < plain.terms.bound.upper
    drift = to_record(refined)["drift"]
    assert drift["distance"] > 0 and drift["distance_finished_to_prior"] > 0
    assert 0 <= drift["agreement"]["value"] <= 1
    measured = refined.measured
    assert drift["risk_gibbs_minus_finished"] == pytest.approx(
        measured.test_risk.value - measured.test_risk_finetuned.value
    )
    record = to_record(plain)
    assert record["drift"]["distance"] == 0
    whole = record["drift"]["distance_finished_to_prior"]
    assert record["drift"]["distance_to_prior"] == pytest.approx(whole)
    assert not any("ended at the prior" in w for w in record["warnings"])


def test_every_scale_a_refinement_could_have_had_is_paid_for(refined):
    ledger = to_record(refined)["delta_ledger"]
    assert sum("PAC-Bayes with prior scale" in row["event"] for row in ledger) == 2
    assert sum("Catoni's bound with prior scale" in row["event"] for row in ledger) == 2


def test_the_primary_bound_is_the_least_of_those_in_the_ledger(refined):
    record = to_record(refined)
    least = min(record["bounds"], key=lambda name: record["bounds"][name]["train_raw"])
    assert record["bound"]["theorem"] == least
    assert record["bound"]["value"] == record["bounds"][least]["raw"]
    catoni = record["bounds"]["catoni"]["delta"]
    assert catoni != record["bounds"]["kl"]["delta"]
    risk, kl, n = refined.empirical_risk.upper, refined.kl.value, record["n"]
    assert record["bounds"]["catoni"]["train_raw"] == catoni_grid(risk, kl, n, catoni).upper


def test_a_refinement_repeats_and_goes_on_where_it_stopped(
    tiny_base, small_run, files, tmp_path, monkeypatch
):
    """Killed after a save, it ends in the same weights, bit for bit."""
    monkeypatch.setattr("estimators.posteriors.refined.SAVE_EVERY", 2)
    state = tmp_path / "state"
    refinement = Refinement(Schedule(steps=6), 16, state)
    options = replace(PLAIN, posterior="refined", refinement=refinement)
    whole = bound(str(tiny_base), small_run, *files, options)
    state.unlink()  # the command does when bound.json is written

    def killing(steps, _):
        for step in steps:
            if step == 5:
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as patch:
        patch.setattr("pacbayes_sft.posteriors.track", killing)
        with pytest.raises(KeyboardInterrupt):
            bound(str(tiny_base), small_run, *files, options)
    assert state.exists()
    with monkeypatch.context() as patch:  # said before pilots are paid for
        patch.setattr("pacbayes_sft.posteriors._pilot_risks", None)
        for other in ({"loss": "token_error"}, {"dtype": "bfloat16"}, {"delta": 0.1}):
            with pytest.raises(InputError, match="fit of something else"):
                bound(str(tiny_base), small_run, *files, replace(options, **other))
    again = bound(str(tiny_base), small_run, *files, options)
    for name, tensor in whole.fitted.posterior.mean.items():
        assert tensor.equal(again.fitted.posterior.mean[name])
    assert whole.fitted.posterior.scale == again.fitted.posterior.scale
    assert to_record(whole) == to_record(again)
    with monkeypatch.context() as patch:  # killed after the fit: it is not made again
        patch.setattr("pacbayes_sft.posteriors.track", lambda steps, _: list(steps) and 1 / 0)
        assert to_record(whole) == to_record(bound(str(tiny_base), small_run, *files, options))


def test_a_radius_of_zero_keeps_the_finished_weights(tiny_base, small_run, files):
    refinement = Refinement(Schedule(steps=5, radius=0.0), batch_size=16)
    options = Options(posterior="refined", refinement=refinement, prior_scales=(0.05,))
    record = to_record(bound(str(tiny_base), small_run, *files, options))
    assert record["drift"]["distance"] == 0 and record["posterior"]["family"] == "refined"


def test_a_refinement_from_the_prior_stays_near_it_and_says_so(lora_run, files):
    refinement = Refinement(Schedule(steps=4), batch_size=16, start="prior")
    options = Options(
        posterior="refined", refinement=refinement, prior_scales=(0.01,), draws=1, baselines=False
    )
    certificate = bound("strong", lora_run, *files, options)
    drift = to_record(certificate)["drift"]
    assert drift["distance"] == pytest.approx(drift["distance_finished_to_prior"], rel=0.05)
    assert certificate.kl.value < 5
    assert "from the prior's centre" in certificate.fitted.reason
    # A certificate of the base must not read as one of the fine-tune.
    record = to_record(certificate)
    assert drift["distance_to_prior"] < 0.1 * drift["distance_finished_to_prior"]
    assert any("ended at the prior" in w and "next to nothing" in w for w in record["warnings"])
    said = certificate_sentence(certificate)
    assert (
        "around the base" in said
        and "posterior, fitted from the prior's centre, ended" in said
        and "posterior around" not in said
    )
    del record["drift"]["distance_to_prior"]  # as a bound.json written before the key was added
    assert "posterior around run" in sentence(record)
    with pytest.raises(InputError, match="--start"):
        Refinement(Schedule(steps=4, radius=1.0), start="prior")
    with pytest.raises(InputError, match="at least one row, got 0"):
        Refinement(batch_size=0)


def test_a_refinement_begins_where_a_pilot_promises_more(lora_run, few):
    """The base is right on most of these rows, and no finished weights are near it in nats."""
    refinement = Refinement(Schedule(steps=2), batch_size=8)
    options = Options(
        posterior="refined", refinement=refinement, prior_scales=(0.01,), draws=1, baselines=False
    )
    assert "from the prior's centre" in bound("strong", lora_run, *few, options).fitted.reason
    held = replace(refinement, schedule=Schedule(steps=2, radius=10.0))
    kept = bound("strong", lora_run, *few, replace(options, refinement=held))
    assert "from the finished weights" in kept.fitted.reason


def test_from_the_prior_every_scale_runs_and_the_quietest_wins(lora_run, few):
    """Nothing is far from its own centre: the less noise, the nearer to the centre's own limit."""
    refinement = Refinement(Schedule(steps=4), batch_size=8, start="prior")
    scales = (0.2, 0.05, 0.001)
    options = Options(
        posterior="refined", refinement=refinement, prior_scales=scales, draws=1, baselines=False
    )
    fitted = bound("strong", lora_run, *few, options).fitted
    assert fitted.sigma == 0.001
    assert all(f"prior at {scale:g}:" in fitted.reason for scale in scales)


def test_full_weights_are_refined_too(full_run, few):
    refinement = Refinement(Schedule(steps=3), batch_size=8)
    options = Options(
        posterior="refined",
        refinement=refinement,
        prior_scales=(0.01,),
        loss="token_error",
        baselines=False,
        draws=1,
    )
    certificate = bound("strong", full_run, *few, options)
    assert certificate.kl.value < certificate.inputs.pair.squared_distance / (2 * 0.01**2)


def test_what_could_be_quoted_instead_is_shown_and_its_choice_is_paid(certificate):
    assert certificate.baselines.keys() == {"held_out", "prior_centre", "compression"}
    record = to_record(certificate)["baselines"]
    assert record["held_out"]["predictor"] == "finished"
    assert record["held_out"]["value"] < 1 and record["held_out"]["train_value"] is None
    claims = [record[name]["value"] for name in ("held_out", "prior_centre", "compression")]
    assert record["best"]["value"] == min([certificate.bound.upper, *claims])
    assert record["best"]["confidence"] == pytest.approx(1 - 4 * 0.05)


def test_the_checkpoint_itself_is_a_baseline_on_the_rows_it_never_saw(certificate, lora_run, files):
    of_the_base, prior = certificate, lora_run / "pacbayes_sft" / "prior"
    certificate = bound("strong", lora_run, *files, replace(PLAIN, prior=prior))
    checkpoint = certificate.baselines["prior_centre"]
    assert checkpoint.predictor == "checkpoint"
    assert "32 unseen units" in checkpoint.on_train.method
    assert checkpoint.on_test.upper == pytest.approx(checkpoint.on_train.upper + 1 / 3)
    base = of_the_base.baselines["prior_centre"]
    assert base.predictor == "base" and "64 unseen units" in base.on_train.method
    assert base.on_train.value == pytest.approx(risk_term("strong", files[0]).risk.value)
    for limit in (base.on_test, certificate.baselines["compression"].on_test):
        assert any("base model did not depend" in sentence for sentence in limit.assumptions)
    assert "nats" in certificate.baselines["compression"].on_train.method


@pytest.mark.parametrize(("shift", "confidence"), [("difficulty", 0.95), ("classifier", 0.0)])
def test_what_could_be_quoted_instead_pays_for_its_shift(
    shift, confidence, tiny_base, small_run, files
):
    certificate = bound(str(tiny_base), small_run, *files, replace(PLAIN, shift=shift))
    record = to_record(certificate)["baselines"]
    for name in ("prior_centre", "compression"):
        stated = record[name]["estimate"]
        assert stated["confidence"] == pytest.approx(confidence, abs=1e-12)
        assert stated["guarantee"] == ("upper" if confidence else "estimate")
        spent = certificate.baselines[name].on_train.delta + certificate.shift.tv.delta
        assert spent == pytest.approx(0.05) or not confidence
    assert record["held_out"]["estimate"]["confidence"] == pytest.approx(0.95)
    (instead,) = (t for t in tables(to_record(certificate)) if t.name == "instead")
    promises = [row[instead.columns.index("promise on test")] for row in instead.rows]
    assert all(promise in ("nothing", "estimate", "upper at 0.95") for promise in promises)


def test_the_best_of_limits_of_which_one_claims_nothing():
    def limit(upper, guarantee, confidence):
        return Estimate(upper, 0.0, upper, confidence, guarantee, "x", (), "probability")

    claims = {
        "a": limit(0.3, Guarantee.UPPER, 0.95),
        "b": limit(0.2, Guarantee.UPPER, 0.96),
        "c": limit(0.4, Guarantee.ESTIMATE, 0.0),
    }
    name, best = best_of(claims)
    assert (name, best.upper) == ("b", 0.2) and best.confidence == pytest.approx(0.91)
    assert best_of(claims | {"d": limit(0.1, Guarantee.ESTIMATE, 0.0)})[1].confidence == 0


def test_the_prior_centre_is_the_prior_and_not_the_fine_tune(lora_run, few, tmp_path):
    run = tmp_path / "ruined"
    shutil.copytree(lora_run, run, ignore=shutil.ignore_patterns("pacbayes_sft"))
    tensors = load_file(run / "adapter_model.safetensors")
    ruined = {name: t * 1e3 if "lora_B" in name else t for name, t in tensors.items()}
    save_file(ruined, run / "adapter_model.safetensors", metadata={"format": "pt"})
    certificate = bound("strong", run, *few, PLAIN)
    base_risk = risk_term("strong", few[0]).risk.value
    assert certificate.baselines["prior_centre"].on_train.value == pytest.approx(base_risk)
    assert certificate.measured.train_risk_finetuned.value > base_risk + 0.2
