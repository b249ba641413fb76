import pytest

from pacbayes_sft.igsm import english, symbolic, verify
from pacbayes_sft.igsm.generate import ITEMS_PER_LAYER, LAYERS
from pacbayes_sft.igsm.grammar import ParseError

STUDIO = "The number of each Central High's Film Studio"
ASKED = "How many Film Studio does Central High have?"


def accepted(problem, text):
    try:
        return bool(verify(problem, english.parse_steps(text)))
    except ParseError:
        return False


def test_names_are_enough_and_unique():
    items = [name for layer in english.ITEMS for name in layer]
    assert len(set(items) | set(english.CATEGORIES)) == LAYERS * (ITEMS_PER_LAYER + 1)
    assert {len(layer) for layer in english.ITEMS} == {ITEMS_PER_LAYER}


def test_english_reads_as_english():
    problem = symbolic.parse_problem("a0b1 = 13 ; b1c0 = a0b1 + 7 ; b1c1 = a0C * a0b1 ; ? b1C :")
    assert english.render_prompt(problem) == (
        "The number of each Central High's Film Studio equals 13. "
        "The number of each Film Studio's Messenger Backpack equals "
        "the number of each Central High's Film Studio plus 7. "
        "The number of each Film Studio's Hiking Backpack equals "
        "the total number of Backpack in each Central High times "
        "the number of each Central High's Film Studio. "
        "How many Backpack does Film Studio have?"
    )
    problem = symbolic.parse_problem("a0b1 = 13 ; a0b0 = a0b1 + 7 ; ? a0b0 :")
    assert english.render_steps(problem.solution()) == (
        " Define Central High's Dance Studio as Central High's Film Studio + 7."
        " Define Central High's Film Studio as 13."
        " So Central High's Dance Studio = 13 + 7 = 20."
    )


def test_english_may_define_and_compute_in_one_sentence():
    problem = symbolic.parse_problem("a0b0 = 3 ; a0b1 = 4 ; a1b0 = a0b0 + a0b1 ; ? a1b0 :")
    given = "Define Central High's Dance Studio as 3. Define Central High's Film Studio as 4. "
    stated = "Define Riverview High's Dance Studio as Central High's Film Studio + "
    rest = "Central High's Dance Studio; so Riverview High's Dance Studio = 4 + 3 = 7."
    text = given + stated + rest
    assert accepted(problem, text)
    assert english.render_steps(english.parse_steps(text)) == " " + text
    assert not accepted(problem, text.replace("so Riverview", "so Lakeside"))
    assert not accepted(problem, text.replace("so Riverview High", "so Central High"))
    assert not accepted(problem, text.replace("Define Central", "So Central"))
    assert not accepted(problem, given + text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{STUDIO} equals 3.",
        f"{STUDIO} equals . {ASKED}",
        f"{STUDIO} equals 99. {ASKED}",
        f"{STUDIO} equals 3 {ASKED}",
        f"{STUDIO} equals 3 + 4. {ASKED}",
        f"{STUDIO} equals 3. {STUDIO} equals 3. {ASKED}",
        f"The number of each Central High's Hiking Backpack equals 3. {ASKED}",
        f"The total number of Backpack in each Central High equals 3. {ASKED}",
        f"{STUDIO} equals 3. How many School does Film Studio have?",
        f"{STUDIO} equals 3. {ASKED} {ASKED}",
    ],
)
def test_broken_prompts_are_refused(text):
    with pytest.raises(ParseError):
        english.parse_problem(text)
