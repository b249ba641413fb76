r"""Records of public data sets to rows: one function a data set, by the columns of its card.

Each returns a row, or None for a record that is left out; a filter looks at one record alone, so
it only defines D_train. Prompts are the plain text of Qwen2.5-Math's own format, not ``messages``:
the base's generation ends with ``<|endoftext|>``, while its chat template ends turns with
``<|im_end|>``, so a model trained through the template would never be seen to end its answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from pacbayes_sft.answers import marked_answer

Record = Mapping[str, Any]
Row = dict[str, Any]

# evaluation/utils.py of github.com/QwenLM/Qwen2.5-Math, "qwen25-math-cot"
PROMPT = (
    "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{{}}."
    "<|im_end|>\n<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n"
)
LETTERS = "ABCD"


def openr1(record: Record) -> Row | None:
    """Return a row of ``open-r1/OpenR1-Math-220k``, configuration ``default`` (93,733 problems).

    Columns: problem, solution, answer, problem_type, question_type, source, uuid,
    is_reasoning_complete, generations, correctness_math_verify, correctness_llama, finish_reasons,
    correctness_count, messages. The completion is the first trace that is complete and verified
    (by Math-Verify, else by the Llama judge); a problem without one, or without an answer, is left
    out.
    """
    traces = list(record["generations"])
    complete = _flags(record.get("is_reasoning_complete"), len(traces))
    for judge in ("correctness_math_verify", "correctness_llama"):
        right = _flags(record.get(judge), len(traces))
        for trace, done, good in zip(traces, complete, right, strict=True):
            if done and good and trace.strip() and _is_answer(record.get("answer")):
                return _row(record["problem"], trace, record["answer"], id=record.get("uuid"))
    return None


def openmath(record: Record) -> Row | None:
    """Return a row of ``nvidia/OpenMathReasoning``, split ``cot``.

    Columns: expected_answer, problem_type, problem_source, generation_model, pass_rate_72b_tir (a
    string, "n/a" where unknown), problem, generated_solution, inference_mode, used_in_kaggle. Only
    problems whose answer was extracted are kept. The pass rate of Qwen2.5-72B is kept as a column:
    an external difficulty.
    """
    if record.get("problem_type") != "has_answer_extracted":
        return None
    if not _is_answer(record.get("expected_answer")):
        return None
    row = _row(record["problem"], record["generated_solution"], record["expected_answer"])
    with contextlib.suppress(KeyError, TypeError, ValueError):
        row["pass_rate_72b_tir"] = float(record["pass_rate_72b_tir"])
    return row


def openscience(record: Record) -> Row | None:
    """Return a row of ``nvidia/OpenScience`` (configuration ``OS-Q3-235B-4``: four choices).

    Columns: input (question and choices), output (reasoning ending in the boxed letter). A record
    whose answer is no letter is left out.
    """
    letter = _letter(record["output"].rsplit("</think>", 1)[-1])
    return None if letter is None else _row(record["input"], record["output"], letter)


def math500(record: Record) -> Row | None:
    """Return a test row of ``HuggingFaceH4/MATH-500``.

    Columns: problem, solution, answer, subject, level, unique_id.
    """
    row = _row(record["problem"], record["solution"], record["answer"], id=record["unique_id"])
    return row | {"subject": record["subject"], "level": int(record["level"])}


def mmlu(record: Record) -> Row | None:
    """Return a test row of ``cais/mmlu``, configuration ``all``, split ``test``.

    Columns: question, subject, choices (four strings), answer (0 to 3). The prompt has the layout
    of OpenScience's questions. There is no solution text: the completion is the boxed letter, for
    the loss ``answer`` alone.
    """
    choices = [f"{x}: {text}" for x, text in zip(LETTERS, record["choices"], strict=True)]
    letter = LETTERS[int(record["answer"])]
    question = "\n".join([record["question"], *choices])
    return _row(question, f"\\boxed{{{letter}}}", letter) | {"subject": record["subject"]}


CONVERT: dict[str, Callable[[Record], Row | None]] = {
    "openr1": openr1,
    "openmath": openmath,
    "openscience": openscience,
    "math500": math500,
    "mmlu": mmlu,
}
COLUMNS: dict[str, tuple[str, ...]] = {  # what each function cannot do without
    "openr1": ("problem", "generations", "answer", "is_reasoning_complete"),
    "openmath": ("problem", "generated_solution", "expected_answer", "problem_type"),
    "openscience": ("input", "output"),
    "math500": ("problem", "solution", "answer", "subject", "level", "unique_id"),
    "mmlu": ("question", "subject", "choices", "answer"),
}


def _row(problem: str, completion: str, answer: str, id: object = None) -> Row:
    """The unit is the problem's text, so that one problem is one unit wherever it comes from."""
    unit = hashlib.sha256(" ".join(problem.split()).encode()).hexdigest()[:16]
    row = {
        "prompt": PROMPT.format(problem=problem.strip()),
        "completion": completion.strip(),
        "answer": str(answer).strip(),
        "unit": unit,
    }
    return row if id is None else row | {"id": str(id)}


def _flags(values: Any, count: int) -> list[bool]:
    """A judge that said nothing of a trace did not accept it."""
    given = [bool(value) for value in values] if values is not None else []
    return (given + [False] * count)[:count]


def _is_answer(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _letter(text: str) -> str | None:
    marked = marked_answer(text)
    found = re.fullmatch(r"(?:\\text(?:bf)?\{)?\(?([A-J])\)?[.:]?\}?(?:[.:\s].*)?", marked or "")
    return found[1] if found else None
