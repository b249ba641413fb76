"""Ways in which a checkpoint directory breaks, drawn at random and repeatable from a seed."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, 1e308, float("inf"), "", "x", "../../etc/passwd", [], [[]],
    {}, {"a": None}, ["q_proj", 3], "(a+)+$", "\x00",
]  # fmt: skip


def weights_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.safetensors") if not p.is_symlink())


def jsons_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.json") if not p.is_symlink())


def truncated(folder: Path, dice: random.Random) -> None:
    file = dice.choice(weights_of(folder) + jsons_of(folder))
    file.write_bytes(file.read_bytes()[: dice.randrange(file.stat().st_size)])


def bit_flipped_header(folder: Path, dice: random.Random) -> None:
    file = dice.choice(weights_of(folder))
    content = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(dice.randint(1, 4)):
        content[dice.randrange(8 + min(length, len(content) - 8))] ^= 1 << dice.randrange(8)
    file.write_bytes(content)


def huge_header(folder: Path, dice: random.Random) -> None:
    file = dice.choice(weights_of(folder))
    content = file.read_bytes()
    length = dice.choice([2**63 - 1, 2**40, 10**8 + 1, len(content), 0])
    file.write_bytes(struct.pack("<Q", length) + content[8:])


def rewritten_header(folder: Path, dice: random.Random) -> None:
    """Change a field of the header: dtype, shape or place of a tensor."""
    file = dice.choice(weights_of(folder))
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = dice.choice([k for k in header if k != "__metadata__"])
    key = dice.choice(["dtype", "shape", "data_offsets"])
    header[name][key] = dice.choice(
        {
            "dtype": ["F16", "BF16", "I64", "F8_E4M3", "BOOL", "X", 3],
            "shape": [[], [0], [1], [-1, 2], [2**40, 2**40], "ab", [3, None]],
            "data_offsets": [[0, 0], [0, 2**60], [8, 4], [-8, 8], "ab", []],
        }[key]
    )
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def changed_tensors(folder: Path, dice: random.Random) -> None:
    """Rename, drop, reshape, poison or duplicate tensors in a well-formed file."""
    file = dice.choice(weights_of(folder))
    tensors = load_file(file)
    name = dice.choice(sorted(tensors))
    tensor = tensors[name]
    what = dice.randrange(9)
    if what == 0:
        del tensors[name]
    elif what == 1:
        tensors[name + dice.choice([".x", ".weight", "_extra"])] = tensors.pop(name)
    elif what == 2:
        tensors[name] = tensor.reshape(-1)
    elif what == 3:
        tensors[name] = tensor[..., :1].contiguous()
    elif what == 4 and tensor.is_floating_point():
        tensors[name] = torch.full_like(tensor, dice.choice([float("nan"), float("inf")]))
    elif what == 5:
        tensors[name] = tensor.to(dice.choice([torch.int64, torch.bool, torch.float8_e4m3fn]))
    elif what == 6:
        tensors[name] = torch.zeros(0)
    elif what == 7:
        tensors[name] = tensor.t().contiguous() if tensor.ndim == 2 else tensor[None]
    else:
        tensors = {name.replace("layers.0", "layers.77"): t for name, t in tensors.items()}
    save_file({k: t.clone() for k, t in tensors.items()}, file, metadata={"format": "pt"})


def changed_config(folder: Path, dice: random.Random) -> None:
    """Give a key of a JSON file, at any depth, a value of the wrong kind; or drop or add one."""
    file = dice.choice(jsons_of(folder))
    content = json.loads(file.read_text())
    places: list[tuple[dict, str]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key in node:
                places.append((node, key))
                walk(node[key])

    walk(content)
    node, key = dice.choice(places)
    what = dice.randrange(8)
    if what == 0:
        del node[key]
    elif what == 1:
        node[dice.choice(["rank_pattern", "r", "layer_replication", "new", "weight_map"])] = (
            dice.choice(ODD)
        )
    else:
        node[key] = dice.choice(ODD)
    file.write_text(json.dumps(content))


def outside(folder: Path, dice: random.Random) -> None:
    """Point a shard or a link outside the directory."""
    index = folder / "model.safetensors.index.json"
    if index.exists() and dice.random() < 0.7:
        content = json.loads(index.read_text())
        name = dice.choice(sorted(content["weight_map"]))
        content["weight_map"][name] = dice.choice(
            ["../secret.safetensors", "/etc/passwd", "..", ".", "", "a/b.safetensors", "\x00"]
        )
        index.write_text(json.dumps(content))
    else:
        file = dice.choice(weights_of(folder))
        file.unlink()
        file.symlink_to(dice.choice(["/dev/zero", "/etc/passwd", "nowhere", ".", file.name]))


def swapped_files(folder: Path, dice: random.Random) -> None:
    files = weights_of(folder) + jsons_of(folder)
    one, other = dice.sample(files, 2) if len(files) > 1 else (files[0], files[0])
    content = one.read_bytes()
    if dice.random() < 0.5:
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif one != other:
        other.unlink()
        other.mkdir()
    else:
        one.unlink()


MUTATIONS: list[Callable[[Path, random.Random], None]] = [
    truncated,
    bit_flipped_header,
    huge_header,
    rewritten_header,
    changed_tensors,
    changed_config,
    outside,
    swapped_files,
]


def mutate(origin: Path, folder: Path, seed: int) -> str:
    """Copy ``origin`` to ``folder`` and break it once or twice; return how."""
    shutil.copytree(origin, folder)
    dice = random.Random(seed)
    names = []
    for _ in range(dice.choice([1, 1, 2])):
        mutation = dice.choice(MUTATIONS)
        try:
            mutation(folder, dice)
        except Exception:  # an earlier mutation left nothing for this one
            continue
        names.append(mutation.__name__)
    return " + ".join(names)
