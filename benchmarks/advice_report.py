"""The regrets of ``benchmarks/advice.py`` as a table and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ADVICE = "advice (held-out risk + measured shift, ties by the bound)"
RESULT = Path(__file__).parent / "results" / "advice.json"
LAWS = (("easy", "o"), ("flat", "s"), ("hard", "^"))


def last(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the stage with the largest pilots."""
    name = max(result["stages"], key=int)
    return name, result["stages"][name]


def said(name: str, stage: Mapping[str, Any]) -> str:
    """Say what was judged from what."""
    sizes = " and ".join(f"{n:,}" for n in stage["judged_at"])
    seeds = stage["pilot_seeds"]
    plural = "s" * (seeds > 1)
    return f"pilots of n ≤ {int(name):,} ({seeds} seed{plural}), judged at n = {sizes}"


def table(result: Mapping[str, Any], rules: Sequence[str] = ()) -> str:
    """Return the table of these rules, or all, in the stage with the largest pilots."""
    name, stage = last(result)
    lines = [
        f"| rule ({said(name, stage)}) | mean regret | worst | easy / flat / hard test "
        "| cases (with every pilot seed) |",
        "|---|---|---|---|---|",
    ]
    shown = {r: found for r, found in stage["rules"].items() if r in (rules or stage["rules"])}
    for rule, found in sorted(shown.items(), key=lambda item: item[1]["mean"]):
        laws = " / ".join(_number(found["by_law"].get(law)) for law, _ in LAWS)
        bold = "**" * (rule == ADVICE)
        tried = f" ({found['entries']})" if found["entries"] > found["cases"] else ""
        cases = f"{found['cases']}{tried}"
        numbers = f"{found['mean']:.3f} | {found['worst']:.3f} | {laws} | {cases}"
        lines.append(f"| {bold}{rule}{bold} | {numbers} |")
    lines += [f"| {rule} | not run yet | | | |" for rule in stage["not_run"]]
    return "\n".join(lines)


def judges_table(result: Mapping[str, Any]) -> str:
    """Return the table of these rules judged by fine-tunes that none of them has seen."""
    name, _ = last(result)
    return table({"stages": {name: result["judged_again"]}})


def fewer_table(result: Mapping[str, Any]) -> str:
    """Return the table of what the advice costs and does where pilot sizes are left out."""
    lines = [
        "| base | pilots of n | rows that their steps read, over a fine-tune of every window at "
        "4,096 | regret of the advice | of the best fixed rule |",
        "|---|---|---|---|---|",
    ]
    for found in (f for f in result["fewer_pilots"] if "advice" in f):
        sizes = ", ".join(f"{n:,}" for n in found["sizes"])
        lines.append(
            f"| {found['base']} | {sizes} | {found['cost']['rows_read']:.1%} "
            f"| {found['advice']:.3f} | {found['best_fixed_rule']:.3f} |"
        )
    return "\n".join(lines)


def halving_table(result: Mapping[str, Any]) -> str:
    """Return the table of what piloting half of the windows past the smallest size saves."""
    lines = [
        "| base | budgets | windows piloted beyond the smallest size | rows that pilots' steps "
        "read, over a fine-tune of every window at every budget | mean regret | worst |",
        "|---|---|---|---|---|---|",
    ]
    for found in result["halving"]:
        kept = sorted({*found["kept"]})
        which = f"{kept[0]}" if len(kept) == 1 else f"{kept[0]} to {kept[-1]}"
        budgets = " and ".join(f"{n:,}" for n in found["budgets"])
        lines.append(
            f"| {found['base']} | {budgets} | {which} | {found['cost']['rows_read']:.1%} | "
            f"{found['mean']:.3f} | {found['worst']:.3f} |"
        )
    return "\n".join(lines)


def weights_table(result: Mapping[str, Any]) -> str:
    """Return the measured risk of every token weight and window, by training size."""
    every = result["risks_by_token_weight"]
    windows = list(dict.fromkeys(e["window"] for e in every))
    names = " | ".join(w.replace(":", "–") for w in windows)
    lines = [f"| base | n | seeds | α | {names} | best |", "|" + "---|" * (len(windows) + 5)]
    for row in dict.fromkeys((e["base"], e["size"], e["seeds"], e["alpha"]) for e in every):
        base, size, seeds, alpha = row
        mine = {
            e["window"]: e["risk"]
            for e in every
            if (e["base"], e["size"], e["seeds"], e["alpha"]) == row
        }
        risks = " | ".join(f"{mine[w]:.3f}" for w in windows)
        best = min(mine.values())
        lines.append(f"| {base} | {size:,} | {seeds} | {alpha:g} | {risks} | {best:.3f} |")
    return "\n".join(lines)


def weight_rules_table(result: Mapping[str, Any]) -> str:
    """Return the regrets of choosing token weight and window at once, and of a fixed weight."""
    lines = [
        "| rule | mean regret | worst | easy / flat / hard test | takes α |",
        "|---|---|---|---|---|",
    ]
    rules = result["token_weights"]
    for rule, found in sorted(rules.items(), key=lambda item: item[1]["mean"]):
        mine = [e for e in result["token_weight_entries"] if e["rule"] == rule]
        taken = Counter(e["alpha"] for e in mine)
        counts = ", ".join(f"{alpha:g} in {taken[alpha]} of {len(mine)}" for alpha in sorted(taken))
        laws = " / ".join(_number(found["by_law"].get(law)) for law, _ in LAWS)
        lines.append(f"| {rule} | {found['mean']:.3f} | {found['worst']:.3f} | {laws} | {counts} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw the mean regret of every rule, the advice marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    name, stage = last(result)
    rules = sorted(stage["rules"].items(), key=lambda item: item[1]["mean"])
    sns.set_theme(context="notebook", style="whitegrid")
    figure, axis = plt.subplots(figsize=(9.5, 0.36 * len(rules) + 1.4), layout="constrained")
    for place, (rule, found) in enumerate(rules):
        mine = rule == ADVICE
        axis.barh(place, found["mean"], color="#c9582d" if mine else "#a9bfd6",
                  hatch="//" if mine else None)  # fmt: skip
        for law, marker in LAWS:
            if law in found["by_law"]:
                axis.plot(
                    found["by_law"][law],
                    place,
                    marker,
                    color="black",
                    mfc="w",
                    ms=6,
                    clip_on=False,
                    zorder=3,
                )
    for law, marker in LAWS:
        axis.plot([], [], marker, color="black", mfc="w", label=f"{law} test law")
    axis.set_yticks(range(len(rules)), [rule for rule, _ in rules], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel("regret: measured test risk minus that of the best window (0 to 1)")
    axis.set_title(said(name, stage), loc="left", fontsize=11)
    axis.grid(axis="y", visible=False)
    axis.legend(fontsize=9)
    figure.savefig(file, dpi=110)
    plt.close(figure)
