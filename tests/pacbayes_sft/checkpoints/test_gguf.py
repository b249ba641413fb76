"""A GGUF base is de-quantised once, and named so wherever it is used."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from pacbayes_sft.checkpoints.files import open_checkpoint
from pacbayes_sft.checkpoints.gguf import dequantise_gguf
from pacbayes_sft.errors import InputError
from pacbayes_sft.models import local_directory
from pacbayes_sft.terms import kl_term
from tests.pacbayes_sft.checkpoints import tiny

WIDTH, HEADS, VOCABULARY = 32, 2, 40


@pytest.fixture(scope="module")
def gguf():
    return pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def file(gguf, tmp_path_factory):
    """A one-layer Llama whose matrices are quantised to 8 bits in blocks of 32."""
    path = tmp_path_factory.mktemp("gguf") / "tiny-q8_0.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    random = np.random.default_rng(0)
    shapes = {"token_embd.weight": (VOCABULARY, WIDTH), "output.weight": (VOCABULARY, WIDTH)}
    shapes |= {f"blk.0.attn_{x}.weight": (WIDTH, WIDTH) for x in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{x}.weight": (2 * WIDTH, WIDTH) for x in ("gate", "up")}
    shapes["blk.0.ffn_down.weight"] = (WIDTH, 2 * WIDTH)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_becomes_a_base_that_says_what_it_is(gguf, file, tmp_path):
    base = dequantise_gguf(file, tmp_path / "base", dtype="float32")
    folder = tiny.make_adapter(
        base, tmp_path / "a", target_modules=["q_proj"], r=2, modules_to_save=["lm_head"]
    )
    result = kl_term(str(base), folder, sigma=0.1)
    assert result.base_precision == "de-quantised from GGUF tiny-q8_0.gguf"
    assert result.squared_distance == pytest.approx(tiny.merged_distance(base, folder), rel=1e-6)
    reader = {t.name: t for t in gguf.GGUFReader(file).tensors}["output.weight"]
    values = torch.from_numpy(gguf.quants.dequantize(reader.data, reader.tensor_type))
    assert torch.equal(open_checkpoint(base).tensor("lm_head.weight"), values)
    with pytest.raises(InputError, match="exists already"):
        dequantise_gguf(file, base)


def test_undone_it_is_refused_with_the_command(file, tmp_path):
    says = r"a GGUF file; de-quantise it once with `python -m pacbayes_sft.checkpoints.gguf"
    with pytest.raises(InputError, match=says):
        local_directory(str(file))
    shutil.copy(file, tmp_path)
    with pytest.raises(InputError, match=says):
        open_checkpoint(tmp_path)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    with pytest.raises(InputError, match="could not read it"):
        dequantise_gguf(tmp_path / "broken.gguf", tmp_path / "out")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pacbayes_sft.checkpoints.gguf.find_spec", lambda name: None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"a\.gguf: needs the package gguf: .*\[real\]"):
        dequantise_gguf(tmp_path / "a.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_module_run_on_a_missing_file_ends_in_a_sentence(tmp_path):
    words = [sys.executable, "-m", "pacbayes_sft.checkpoints.gguf", "nofile", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr == "error: nofile: no such GGUF file\n"
