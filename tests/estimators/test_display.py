"""What a terminal and a notebook show of an estimate."""

import io
import math

from rich.console import Console

from estimators import Estimate, Guarantee
from estimators.display import confidence, confidence_percent, failure, rounded_down, rounded_up


def make(guarantee, upper=0.4, **more):
    words = {"method": "m", "unit": "probability"} | more
    return Estimate(0.25, 0.1, upper, 0.95, guarantee, **words)


def printed(estimate):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(estimate)
    return console.file.getvalue().strip()


def test_the_terminal_says_label_and_limit():
    assert printed(make(Guarantee.UPPER)) == "0.25 probability upper ≤ 0.4 at 0.95 (m)"
    assert printed(make(Guarantee.LOWER)) == "0.25 probability lower ≥ 0.1 at 0.95 (m)"
    assert printed(make(Guarantee.ESTIMATE)) == "0.25 probability estimate (m)"
    assert "vacuous" in printed(make(Guarantee.UPPER, upper=1.0))
    assert "vacuous" not in printed(make(Guarantee.UPPER, upper=1.7, unit="nats"))


def test_brackets_in_a_method_are_text():
    assert "(on [0, 1] [bold])" in printed(make(Guarantee.EXACT, method="on [0, 1] [bold]"))


def test_a_notebook_shows_text_not_tags():
    page = make(Guarantee.UPPER, method="<b>&", assumptions=("n < 5", "b"))._repr_html_()
    assert "&lt;b&gt;&amp;" in page and "<b>" not in page
    assert "2 assumptions" in page and "n &lt; 5" in page
    assert "≥" not in make(Guarantee.UPPER, upper=math.inf)._repr_html_()


def test_a_limit_of_any_size_is_rounded():
    assert rounded_up(1e26, 3) == "1" + 26 * "0" + ".000"
    assert rounded_up(1.5e300, 0) == "15" + 299 * "0" and rounded_down(-1e26, 2)[-4:] == "0.00"
    assert rounded_up(9.9999, 3) == "10.000" and rounded_up(1e-300, 3) == "0.001"
    assert rounded_up(1e26) == "1e+26"


def test_a_confidence_is_never_rounded_up():
    """Nor is binary noise taken for a smaller one: 1 - (0.05 - 1e-17) is 0.95."""
    for delta in (0.05, 0.1, 0.01, 0.001, 0.0123456, 5e-4, 5e-5, 1e-9):
        said = confidence(1 - delta)
        kept = 1 - float(said.split(" - ")[1]) if "-" in said else float(said)
        assert kept <= 1 - delta * (1 - 1e-6) and said != "1"
    assert confidence(1 - (0.05 - 1e-16)) == confidence(0.9499999999999999) == "0.95"
    assert (confidence(0.0), confidence(1.0)) == ("0", "1")
    assert (confidence_percent(0.95), confidence_percent(1 - 1e-7)) == ("95 %", "1 - 1e-07")
    assert (failure(5e-7), failure(0.00399999999999)) == ("5e-07", "0.004")
