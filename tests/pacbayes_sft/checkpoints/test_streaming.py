import json

import pytest
import torch
from safetensors.torch import save_file

from estimators.sums import GROUP
from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.finetune import squared_distance
from pacbayes_sft.checkpoints.streaming import squared_distances, squared_norms
from pacbayes_sft.choices import Space
from pacbayes_sft.errors import InputError


def tensors(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (300, 200), "b": (17,), "c": (), "d": (4, 9, 5)}
    return {n: torch.randn(s, generator=generator).to(dtype) for n, s in shapes.items()}


def write(folder, content, shards=1):
    folder.mkdir()
    if shards == 1:
        save_file(content, folder / "model.safetensors")
        return folder
    file_of = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(content)}
    for file in set(file_of.values()):
        save_file({n: t for n, t in content.items() if file_of[n] == file}, folder / file)
    index = {"weight_map": file_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shards_and_dtypes(shards, dtype, tmp_path):
    before, after = tensors(0, torch.bfloat16), tensors(1, dtype)
    base = open_checkpoint(write(tmp_path / "base", before))
    tuned = open_checkpoint(write(tmp_path / "tuned", after, shards))
    names = list(tuned.file_of)
    expected = [float((after[n].double() - before[n].double()).square().sum()) for n in names]
    assert squared_distances(base, tuned, names, 1) == pytest.approx(expected, rel=6e-7)
    assert squared_distances(base, tuned, names, 1) == squared_distances(base, tuned, names, 2)
    norms = [float(before[n].double().square().sum()) for n in names]
    assert squared_norms(base, names) == pytest.approx(norms, rel=6e-7)
    whole, count = squared_distance(base, tuned.directory, Space.WEIGHTS)
    assert whole == pytest.approx(sum(expected), rel=6e-7) and count == 60_000 + 17 + 1 + 180


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_what_is_not_finite_is_named(side, name, tmp_path):
    content = {"base": tensors(0, torch.bfloat16), "tuned": tensors(1, torch.bfloat16)}
    content[side][name].view(-1)[GROUP + 1 if name == "a" else 3] = float("nan")
    base, tuned = (open_checkpoint(write(tmp_path / s, content[s])) for s in ("base", "tuned"))
    with pytest.raises(InputError, match=f"{side}.*tensor '{name}' holds NaN"):
        squared_distances(base, tuned, list(tuned.file_of))
    with pytest.raises(InputError, match="no tensor"):
        squared_distances(base, tuned, ["z"])


def test_torch_keeps_its_threads(tmp_path):
    files = open_checkpoint(write(tmp_path / "base", tensors(0, torch.float32)))
    before = torch.get_num_threads()
    squared_norms(files, ["a"])
    assert torch.get_num_threads() == before
