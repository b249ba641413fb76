"""Write iGSM problems as a data file with its op law recorded beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pacbayes_sft.atomic import replacing
from pacbayes_sft.choices import Rendering
from pacbayes_sft.data.metadata import Metadata, sidecar
from pacbayes_sft.igsm import english, symbolic
from pacbayes_sft.igsm.generate import VERSION, OpLaw, draw_problem, problem_stream
from pacbayes_sft.reading import sha256_of

_RENDERERS = {Rendering.SYMBOLIC: symbolic, Rendering.ENGLISH: english}


def generator_name(*, abstract: bool, rendering: Rendering = Rendering.SYMBOLIC) -> str:
    """Name everything about the law of a problem but the law of its operation count."""
    kind = "instance+abstract" if abstract else "instance"
    return f"igsm {VERSION}, {rendering}, mod 23, {kind}"


def draw_row(
    law: OpLaw,
    seed: int,
    index: int,
    *,
    abstract: bool = True,
    rendering: Rendering = Rendering.SYMBOLIC,
) -> dict[str, Any]:
    """Draw row ``index`` of data set ``seed`` as a JSON-ready record.

    The problem, its unit and its answer are the same in every rendering.
    """
    stream = problem_stream(seed, index, law.namespace)
    problem = draw_problem(law.draw(stream), stream, abstract=abstract)
    renderer = _RENDERERS[rendering]
    name = f"igsm-{seed}-{law.namespace[-1]:08x}-{index}"
    return {
        "prompt": renderer.render_prompt(problem),
        "completion": renderer.render_steps(problem.solution()),
        "difficulty": problem.operations,
        "unit": name,
        "answer": str(problem.answer),
        "id": name,
    }


def write_problems(
    out: Path,
    law: OpLaw,
    *,
    size: int,
    seed: int,
    abstract: bool = True,
    rendering: Rendering = Rendering.SYMBOLIC,
) -> Metadata:
    """Write ``size`` independent problems to ``out`` and the law they follow beside it.

    Each of the two files is written whole or not at all. An interruption between them leaves the
    new rows beside no sidecar, or beside that of the rows before, which names their hash and so is
    not believed of the new ones: write them again.

    Raises:
        ValueError: If ``size`` is not positive or ``seed`` negative.
    """
    if size < 1 or seed < 0:
        raise ValueError(f"size must be >= 1 and seed >= 0, got {size} and {seed}")
    with replacing(out) as partial, partial.open("w", encoding="utf-8") as lines:
        for index in range(size):
            row = draw_row(law, seed, index, abstract=abstract, rendering=rendering)
            lines.write(json.dumps(row) + "\n")
    metadata = Metadata(
        generator=generator_name(abstract=abstract, rendering=rendering),
        attribute="difficulty",
        law={str(op): weight for op, weight in law.weights.items()},
        seed=seed,
        rows=size,
        data_sha256=sha256_of(out),
    )
    with replacing(sidecar(out)) as partial:
        partial.write_text(metadata.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return metadata
