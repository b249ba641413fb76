"""A world whose best difficulty is known: records as a scan writes them, from formulas."""

from __future__ import annotations

import json

import numpy as np

from pacbayes_sft.advise.prepare import Pilots

WINDOWS = ("2:4", "5:7", "8:10")
LEVELS = tuple(range(2, 11))
SIZES = (64, 256, 1024)
SMALL = Pilots(sizes=(8, 32, 96), judges=90)


def true_risk(window, level, n, objective="nll"):
    """Inside the window falls as n^-b, slower for harder windows; outside grows with distance."""
    low, high = map(int, window.split(":"))
    middle = (low + high) / 2
    amplitude = 0.14 + 0.09 * middle  # harder data need more rows
    own = 0.03 + amplitude * (n / 64) ** -0.35
    away = max(0, low - level, level - high)
    penalty = 0.05 * away if level < low else 0.13 * away
    if objective == "dft":
        penalty += 0.1
    return float(min(1.0, own + penalty))


def record(window, size, seed, objective="nll", noise=0.0, kl=40.0):
    """Return the record of one cell of this world."""
    stream = np.random.default_rng([size, seed, *map(ord, window + objective)])
    low, high = map(int, window.split(":"))

    def estimate(value, rows=200):
        value = float(np.clip(value + noise * stream.standard_normal(), 0, 1))
        half = 1.96 * max(0.002, (value * (1 - value) / rows) ** 0.5)
        return {"value": value, "lower": max(0.0, value - half), "upper": min(1.0, value + half)}

    risk = {d: true_risk(window, d, size, objective) for d in LEVELS}
    heldout = float(np.mean([risk[d] for d in range(low, high + 1)]))
    return {
        "key": f"{window}-{size}-{seed}-{objective}",
        "cell": {"window": window, "size": size, "seed": seed, "base": "strong",
                 "objective": objective, "method": "lora"},
        "measured": {
            "test_risk": estimate(float(np.mean(list(risk.values())))),
            "slices": {str(d): estimate(r) for d, r in risk.items()},
            "train_distribution_risk": estimate(heldout),
            "train_risk": max(0.0, heldout - 0.3 * (size / 64) ** -0.5),
        },
        "bounds": {
            "plain": {
                "n": size // 2, "n_train": size, "kl_nats": kl * (size / 64) ** 0.5,
                "empirical_risk": {"upper": heldout},
                "terms": {"empirical_risk": heldout},
            }
        },
        "seconds": {"all": size / 10},
    }  # fmt: skip


def untouched():
    """Return what a base's own record measures: 0.2 at the easiest level, 0.8 at the hardest."""
    risks = np.linspace(0.2, 0.8, len(LEVELS))
    return {"slices": {str(d): {"value": r, "lower": r - 0.05, "upper": r + 0.05}
                       for d, r in zip(LEVELS, risks, strict=True)}}  # fmt: skip


def world(sizes=SIZES, windows=WINDOWS, seeds=(0,), **changes):
    """Return all its records, a base's own among them."""
    cells = [record(w, n, s, **changes) for n in sizes for s in seeds for w in windows]
    return [{"key": "base", "base": "strong", "measured": {}}, *cells]


def law(values):
    """Return the uniform law on values."""
    return {float(v): 1 / len(values) for v in values}


def write(file, rows):
    """Write rows as JSON lines and return the file's name."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def truth(window, n, test_law, objective="nll"):
    """Return the risk that a window really has under a test law."""
    return sum(w * true_risk(window, int(d), n, objective) for d, w in test_law.items())
