"""The card of a fine-tune: a section in words, metadata as the hub reads them."""

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from estimators import Estimate, Guarantee
from pacbayes_sft import InputError, model_card_section, update_model_card
from pacbayes_sft.report.model_card import BEGIN, END

PEFT_CARD = """---
base_model: strong
library_name: peft
model-index:
- name: mine
  results:
  - task:
      type: text-generation
    dataset:
      name: other
      type: other
    metrics:
    - type: accuracy
      value: 0.5
      name: of the author
---

# My model

What I say of it.
"""


@pytest.fixture
def promising(certificate):
    made = Estimate(0.3, -float("inf"), 0.3, 0.95, Guarantee.UPPER, "m")
    return replace(certificate, bounds=dict.fromkeys(certificate.bounds, (made, made)))


def results(file):
    return {r.metric_name: r for r in ModelCard.load(file).data.eval_results}


def test_the_section_stands_beside_what_the_author_wrote(promising, tmp_path):
    file = tmp_path / "README.md"
    file.write_text(PEFT_CARD)
    update_model_card(promising, tmp_path)
    once = file.read_text()
    update_model_card(promising, file)  # replaces its own section and results, doubles nothing
    assert file.read_text() == once
    card = ModelCard.load(file)
    assert "What I say of it." in card.text and model_card_section(promising) in card.text
    assert card.data.base_model == "strong" and card.data.model_name == "mine"
    found = results(file)
    assert found["of the author"].metric_value == 0.5 and len(found) == 3
    (bound,) = (r for r in found.values() if r.metric_type == "pac_bayes_upper_bound")
    assert bound.metric_value == 0.3 and "not this checkpoint" in bound.metric_name
    assert bound.metric_args == {"confidence": 0.95, "n": promising.inputs.n}
    measured = promising.measured.test_risk_finetuned.value
    assert found["measured exact_match loss"].metric_value == measured


@pytest.mark.parametrize("guarantee", [Guarantee.UPPER, Guarantee.ESTIMATE])
def test_what_promises_nothing_is_no_result(promising, guarantee, tmp_path):
    value = 1.2 if guarantee is Guarantee.UPPER else 0.3
    made = Estimate(value, -float("inf"), value, 0.95, guarantee, "m")
    empty = replace(promising, bounds=dict.fromkeys(promising.bounds, (made, made)))
    update_model_card(empty, tmp_path / "README.md")  # there was none
    assert list(results(tmp_path / "README.md")) == ["measured exact_match loss"]


def test_a_card_that_is_no_card(promising, tmp_path):
    (tmp_path / "README.md").write_text("---\nbase_model: [\n---\nx")
    with pytest.raises(InputError, match="metadata cannot be read"):
        update_model_card(promising, tmp_path)
    assert "[" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_bytes("---\n---\nf\u00fcr alle".encode("latin-1"))
    with pytest.raises(InputError, match=r"README\.md, line 3, column 2: not UTF-8 text"):
        update_model_card(promising, tmp_path)


def test_what_the_author_wrote_is_not_lost(promising, tmp_path):
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\n---\n# Mine\n", encoding="utf-8-sig")
    update_model_card(promising, card)
    assert ModelCard.load(card).data.license == "mit" and "# Mine" in card.read_text()
    whole = card.read_text()
    update_model_card(promising, card)
    assert card.read_text() == whole
    for broken, says in (
        ("---\nlicense: mit\n# Mine\n", "no closing line"),
        (f"---\n---\n{BEGIN}\nmine\n", "once each"),
        (f"---\n---\n{END} mine {BEGIN}\n", "once each"),
        (f"---\n---\n{BEGIN} mine {BEGIN} x {END}\n", "once each"),
    ):
        card.write_text(broken)
        with pytest.raises(InputError, match=says):
            update_model_card(promising, card)
        assert card.read_text() == broken
