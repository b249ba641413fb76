"""A few records of every public data set, written here with the columns of its card."""

from __future__ import annotations


def openr1(i: int, *, right=(True,), complete=(True,), answer: str | None = None) -> dict:
    traces = [f"<think>\n{'so ' * (3 * i + k)}</think>\n\\boxed{{{i}}}" for k in range(len(right))]
    return {
        "problem": f"What is {i} + 0?",
        "solution": f"It is {i}.",
        "answer": str(i) if answer is None else answer,
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "olympiads",
        "uuid": f"uuid-{i}",
        "is_reasoning_complete": list(complete),
        "generations": traces,
        "correctness_math_verify": list(right),
        "correctness_llama": None,
        "finish_reasons": None,
        "correctness_count": sum(right),
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": traces[0]}],
    }


def openmath(i: int, kind: str = "has_answer_extracted", rate: str = "0.5") -> dict:
    return {
        "expected_answer": str(i),
        "problem_type": kind,
        "problem_source": "aops_c4_high_school_math",
        "generation_model": "DeepSeek-R1",
        "pass_rate_72b_tir": rate,
        "problem": f"Compute {i}.",
        "generated_solution": f"<think>{'well ' * i}</think> It is \\boxed{{{i}}}.",
        "inference_mode": "cot",
        "used_in_kaggle": True,
    }


def openscience(i: int, boxed: str = "B") -> dict:
    return {
        "input": f"Which of these is number {i}?\nA: one\nB: two\nC: three\nD: four",
        "output": f"<think>{'hm ' * i}\\boxed{{A}}?</think>\nThe answer is \\boxed{{{boxed}}}",
    }


def math500(i: int) -> dict:
    return {
        "problem": f"Find ${i}/3$.",
        "solution": f"{'Clearly ' * i} it is $\\boxed{{\\frac{{{i}}}{{3}}}}$.",
        "answer": f"\\frac{{{i}}}{{3}}",
        "subject": "Algebra",
        "level": 1 + i % 5,
        "unique_id": f"test/algebra/{i}.json",
    }


def mmlu(i: int) -> dict:
    return {
        "question": f"Which is {i}? {'Think. ' * i}",
        "subject": "abstract_algebra",
        "choices": ["0", "4", "2", "6"],
        "answer": i % 4,
    }
