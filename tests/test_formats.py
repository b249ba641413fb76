"""No limit is printed to nearest, and no confidence rounded up: the sources are searched for it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT = re.compile(
    r"""(upper|lower|limit|least)(_95)?["'\])]*:[+,]?\.\d[fge%]"""  # f"{tv.upper:.3f}"
    r"""|format\([^)]*\.(upper|lower)\)"""  # jinja
    r"""|interval\[[01]\]:"""
)
CONFIDENCE = re.compile(r"(confidence|1 - [a-z_.]*delta)[^{}]{0,12}:\.?\d?[gf]|\(.*confidence\) ~ ")
# What is no promise: what checks compare in six digits, and the range of a column.
NOT_PROMISED = {
    "pacbayes_sft/certified/checks.py": ("bound.upper", "stated['upper']"),
    "pacbayes_sft/cli/difficulty.py": ("least",),
}


def lines():
    for folder in ("estimators", "pacbayes_sft", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".jinja"):
                name = str(file.relative_to(ROOT))
                for line in file.read_text(encoding="utf-8").splitlines():
                    if not any(word in line for word in NOT_PROMISED.get(name, ())):
                        yield f"{name}: {line.strip()}"


def test_no_limit_is_formatted_to_nearest():
    found = [line for line in lines() if LIMIT.search(line)]
    assert not found, "use rounded_up or rounded_down of estimators.display: " + "\n".join(found)


def test_no_confidence_is_formatted_to_nearest():
    found = [line for line in lines() if CONFIDENCE.search(line)]
    assert not found, "use confidence of estimators.display: " + "\n".join(found)


def test_what_is_searched_for_is_found():
    for line in ('f"{tv.upper:.3f}"', "f\"{r['lower_95']:.2f}\"", '{{ "%.3f" | format(f.lower) }}'):
        assert LIMIT.search(line)
    for line in ('f"{e.confidence:.4g}"', 'f"at {1 - found.delta:g}"'):
        assert CONFIDENCE.search(line)
