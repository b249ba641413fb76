"""Pictures of synthetic maps: which are drawn, and what is in them."""

import math

import pandas as pd
import pytest

from pacbayes_sft.scan.contrasts import against, dropped, nested, slice_changes
from pacbayes_sft.scan.curves import TALLEST, curves, heat_maps, optimum, saturation
from pacbayes_sft.scan.pictures import _names

WINDOWS = [("2:6", 2, 6), ("4:8", 4, 8), ("6:10", 6, 10), ("8:12", 8, 12)]


def a_map(windows=WINDOWS, sizes=(64, 1024), objectives=("nll",), bases=("strong",), **changes):
    """Cells whose measured least moves one window harder with every 16 times n."""
    rows = []
    for base in bases:
        for objective in objectives:
            for size in sizes:
                for k, (window, low, high) in enumerate(windows):
                    for seed in (0, 1):
                        best = math.log2(size) / 4 - 0.5 - (base == "weak")
                        risk = (
                            0.3 + 0.08 * abs(k - best) + 0.01 * seed + 0.02 * (objective == "dft")
                        )
                        rows.append({
                            "size": size, "window": window, "low": low, "high": high, "seed": seed,
                            "base": base, "objective": objective, "method": "lora",
                            "test_risk": risk, "gibbs_test_risk": risk,
                            "generalization_gap": 0.1, "extrapolation_gap": 0.2,
                            "value": risk + 0.3, "guarantee": "upper", "gibbs_test_lower": 0.1,
                            "term_empirical_risk": risk - 0.1, "term_generalization": 0.2,
                            "term_extrapolation": 0.15, "term_epsilon": 0.05,
                        } | changes)  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(autouse=True)
def closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def axis_texts(figure):
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def test_curves_stack_the_terms_and_mark_both_minimisers():
    figure = curves(a_map(), "t")
    assert [panel.get_title() for panel in figure.axes] == ["n = 64", "n = 1,024"]
    first = figure.axes[0]
    heights = [bar.get_height() for bar in first.patches[:4]]
    assert heights[1] == pytest.approx(0.3 + 0.08 * 0 + 0.005 - 0.1)  # the second window, seed mean
    marks = [a for a in first.texts if a.get_text() == "▼"]
    assert [round(mark.xy[0]) for mark in marks] == [1, 1]
    assert all(panel.get_xlabel() and panel.get_ylabel() for panel in figure.axes)


def test_a_bar_beyond_the_axis_is_cut_and_its_height_printed():
    figure = curves(a_map(term_generalization=7.0, value=9.0), "t")
    assert figure.axes[0].get_ylim()[1] == TALLEST
    assert sum(text.startswith("↑7") for text in axis_texts(figure)) == 8


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_bound_without_a_value_has_no_minimiser(value):
    rows = a_map(value=value, term_extrapolation=math.nan)
    figure = curves(rows, "t")
    assert axis_texts(figure).count("▼") == 2  # that of the measured risk, a panel each
    heat_maps(rows, "t")


def test_heat_maps_show_every_term_and_gap_on_one_scale():
    figure = heat_maps(a_map(), "t")
    titles = " ".join(panel.get_title() for panel in figure.axes)
    for part in ("measured test risk", "bound", "KL", "shift", "ε", "generalisation", "extrapol"):
        assert part in titles
    assert {panel.collections[0].get_clim() for panel in figure.axes if panel.collections} == {
        (0, 1)
    }


def test_the_path_of_the_optimum_moves_as_the_map_does():
    figure = optimum(a_map(sizes=(64, 1024)), "t")
    measured, bounded = figure.axes[0].lines
    assert list(measured.get_ydata()) == [1, 2] == list(bounded.get_ydata())
    assert len(saturation(a_map(), "t").axes[0].containers) == len(WINDOWS)


def test_only_nested_windows_tell_what_dropping_does():
    assert nested(a_map()) == {} and dropped(a_map(), "t") is None
    grown = [("2:4", 2, 4), ("2:8", 2, 8), ("2:12", 2, 12), ("6:12", 6, 12)]
    rows = a_map(windows=grown)
    assert nested(rows) == {"drop hard": ["2:12", "2:8", "2:4"], "drop easy": ["2:12", "6:12"]}
    figure = dropped(rows, "t")
    assert [panel.get_title() for panel in figure.axes] == [
        "without the hardest", "without the easiest",
    ]  # fmt: skip
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["n = 64", "n = 1,024"]


def test_objectives_and_bases_are_compared_where_both_were_measured():
    both = pd.concat([a_map(sizes=(64, 256, 1024)), a_map(sizes=(64, 1024), objectives=("dft",))])
    figure = against(both, "objective", "t")
    assert [panel.get_title() for panel in figure.axes[:2]] == ["n = 64", "n = 1,024"]
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["SFT (nll)", "DFT"]
    assert against(a_map(), "objective", "t") is None
    figure = against(a_map(bases=("strong", "weak")), "base", "t")
    paths = {line.get_label(): list(line.get_ydata()) for line in figure.axes[2].lines}
    assert paths == {"strong": [1, 2], "weak": [0, 1]}


def test_every_objective_is_drawn_and_none_left_out():
    figure = against(a_map(objectives=("nll", "p0.25", "p0.5", "p0.75", "dft")), "objective", "t")
    drawn = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert drawn == {"SFT (nll)", "DFT", "p0.25", "p0.5", "p0.75"}
    (last,) = (panel for panel in figure.axes if panel.get_title().startswith("where each"))
    sizes = [line.get_markersize() for line in last.lines]
    assert min(sizes) >= 3 and len(set(sizes)) == 5
    many = a_map(bases=tuple(f"b{k}" for k in range(9)))
    assert against(many, "base", "t") is None  # nine cannot be told apart in grey


def test_bases_of_one_last_name_get_pictures_of_their_own():
    plain = _names(a_map(bases=("runs/a/base", "runs/b/base", "strong")))
    assert plain["strong"] == "strong" and plain["nll"] == "nll"
    assert len(set(plain.values())) == len(plain)
    assert _names(a_map(bases=("runs/a/base",)))["runs/a/base"] == "base"
    for two in (("m-1", "m.1"), ("runs/a-b/base", "runs/a_b/base")):  # alike once made plain
        names = _names(a_map(bases=two))
        assert names[two[0]] != names[two[1]]


def test_several_bounds_of_a_cell_do_not_count_it_twice():
    rows = pd.concat([a_map(bases=("strong", "weak")), a_map(bases=("strong", "weak"), value=9.0)])
    once = against(a_map(bases=("strong", "weak")), "base", "t")
    twice = against(rows, "base", "t")
    ranges = [[c[2][0].get_segments() for c in f.axes[0].containers] for f in (once, twice)]
    assert str(ranges[0]) == str(ranges[1])


def test_slices_are_drawn_in_order_on_one_scale():
    rows = [
        {"size": size, "window": window, "slice": str(s), "change": 0.1 * k - 0.02 * s}
        for size in (64, 256)
        for k, window in enumerate(("2:6", "10:14"))
        for s in (6, 8, 10)
    ]
    figure = slice_changes(pd.DataFrame(rows), "t")
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["6", "8", "10"]
    assert len({panel.get_ylim() for panel in figure.axes}) == 1
