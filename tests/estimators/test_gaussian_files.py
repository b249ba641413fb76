import pytest
import torch
from safetensors.torch import save_file

from estimators import (
    DiagonalGaussian,
    gaussian_metadata,
    kl_divergence,
    load_gaussian,
    save_gaussian,
)


def a_gaussian():
    torch.manual_seed(0)
    shared = torch.randn(3, 4)
    return DiagonalGaussian(
        {
            "layer.a/b": shared,
            "tied": shared,
            "half": torch.randn(5).bfloat16(),
            "double": torch.randn(2, 2, dtype=torch.float64).T,
            "odd": torch.tensor([-0.0, float("inf"), float("nan"), 1e-45]),
        },
        {
            "layer.a/b": 0.1,
            "tied": torch.rand(3, 1) + 0.1,
            "half": 1 / 3,
            "double": torch.tensor(0.2),
            "odd": torch.full((1,), 2.0).expand(4),
        },
    )


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def test_every_bit_comes_back(tmp_path):
    gaussian, file = a_gaussian(), tmp_path / "q.safetensors"
    save_gaussian(gaussian, file, {"space": "factors"})
    again = load_gaussian(file)
    assert list(again.mean) == sorted(gaussian.mean) and again.scale.keys() == gaussian.scale.keys()
    for name, mean in gaussian.mean.items():
        assert again.mean[name].dtype == mean.dtype and again.mean[name].shape == mean.shape
        assert bits(again.mean[name]) == bits(mean)
        scale = gaussian.scale[name]
        assert type(again.scale[name]) is type(scale)
        if isinstance(scale, torch.Tensor):
            assert again.scale[name].dtype == scale.dtype
            assert again.scale[name].shape == scale.shape
            assert bits(again.scale[name]) == bits(scale)
        else:
            assert again.scale[name] == scale
    assert gaussian_metadata(file) == {"space": "factors"}
    assert [f.name for f in tmp_path.iterdir()] == ["q.safetensors"]


def test_a_saved_posterior_has_the_same_kl(tmp_path):
    q = DiagonalGaussian({"w": torch.randn(7)}, {"w": 0.1})
    p = DiagonalGaussian({"w": torch.randn(7)}, {"w": 0.3})
    save_gaussian(q, tmp_path / "q")
    save_gaussian(p, str(tmp_path / "p"), {})
    loaded = kl_divergence(load_gaussian(tmp_path / "q"), load_gaussian(str(tmp_path / "p")))
    assert loaded.value == kl_divergence(q, p).value


def test_what_is_no_gaussian_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_gaussian(tmp_path / "none")
    (tmp_path / "text").write_text("not this")
    for read in (load_gaussian, gaussian_metadata):
        with pytest.raises(ValueError, match="text"):
            read(tmp_path / "text")
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights")
    with pytest.raises(ValueError, match=r"weights: holds no Gaussian"):
        load_gaussian(tmp_path / "weights")
    save_file({"mean/w": torch.zeros(2)}, tmp_path / "bare")
    with pytest.raises(ValueError, match=r"bare: mean and scale"):
        load_gaussian(tmp_path / "bare")


def test_metadata_are_strings(tmp_path):
    gaussian = DiagonalGaussian({"w": torch.zeros(2)}, {"w": 1.0})
    with pytest.raises(TypeError, match="strings"):
        save_gaussian(gaussian, tmp_path / "q", {"n": 3})
    assert not list(tmp_path.iterdir())
