"""A Gaussian with a basis against dense multivariate normals, and KFAC's optimum."""

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.distributions import kl_divergence as dense_kl

from estimators import (
    DiagonalGaussian,
    kl_divergence,
    load_gaussian,
    log_density_ratio,
    save_gaussian,
)
from estimators.posteriors import isotropic, kfac, laplace


def spd(size, seed):
    x = torch.randn(size, 2 * size, generator=torch.Generator().manual_seed(seed)).double()
    return x @ x.mT / size


@pytest.fixture
def fitted():
    torch.manual_seed(0)
    mean = {"w": torch.randn(3, 4), "b": torch.randn(2)}
    curvature = {"w": (spd(3, 1), spd(4, 2)), "b": torch.tensor([0.5, 2.0])}
    prior = isotropic.fit({"w": torch.zeros(3, 4), "b": torch.zeros(2)}, 0.7)
    return kfac.fit(mean, curvature, sigma=0.7, n=30, temperature=0.3), prior, curvature


def dense(gaussian, name):
    mean = gaussian.mean[name].double()
    entries = torch.as_tensor(gaussian.scale[name]).double().expand(mean.shape).flatten()
    spread = entries.square().diag()
    if name in gaussian.basis:
        left, right = (side.double() for side in gaussian.basis[name])
        turn = torch.kron(left, right)
        spread = turn @ spread @ turn.mT
    return MultivariateNormal(mean.flatten(), spread + 1e-12 * torch.eye(len(spread)).double())


def test_the_covariance_is_the_inverse_of_prior_plus_curvature(fitted):
    posterior, _, (curvature) = fitted
    g, a = curvature["w"]
    precision = torch.eye(12).double() / 0.7**2 + 30 * 0.3 * torch.kron(g, a)
    found = dense(posterior, "w").covariance_matrix
    torch.testing.assert_close(found, precision.inverse(), rtol=1e-4, atol=1e-6)


def test_kl_and_density_ratio_are_those_of_the_dense_normals(fitted):
    posterior, prior, _ = fitted
    expected = sum(dense_kl(dense(posterior, n), dense(prior, n)) for n in ("w", "b"))
    assert kl_divergence(posterior, prior).value == pytest.approx(float(expected), rel=1e-5)
    theta = posterior.sample(torch.Generator().manual_seed(5))
    expected = sum(
        dense(posterior, n).log_prob(theta[n].double().flatten())
        - dense(prior, n).log_prob(theta[n].double().flatten())
        for n in ("w", "b")
    )
    assert log_density_ratio(theta, posterior, prior) == pytest.approx(float(expected), rel=1e-4)


def test_draws_have_the_covariance(fitted):
    posterior, *_ = fitted
    generator = torch.Generator().manual_seed(6)
    draws = torch.stack([posterior.sample(generator)["w"].flatten() for _ in range(20_000)])
    truth = dense(posterior, "w").covariance_matrix
    assert float((torch.cov(draws.T).double() - truth).abs().max()) < 0.03 * float(truth.max())


def test_it_comes_back_from_disk_bit_for_bit(fitted, tmp_path):
    posterior, *_ = fitted
    save_gaussian(posterior, tmp_path / "q.safetensors")
    again = load_gaussian(tmp_path / "q.safetensors")
    assert again.basis.keys() == {"w"}
    for one, other in zip(again.basis["w"], posterior.basis["w"], strict=True):
        assert one.equal(other)
    one = again.sample(torch.Generator().manual_seed(1))["b"]
    assert one.equal(
        load_gaussian(tmp_path / "q.safetensors").sample(torch.Generator().manual_seed(1))["b"]
    )


def test_it_gives_up_less_than_the_diagonal_for_the_same_curvature(fitted):
    """n·risk + KL of a loss with exactly this curvature: no diagonal posterior is lower."""
    posterior, prior, curvature = fitted
    whole = torch.kron(*curvature["w"])
    diagonal = laplace.fit(
        posterior.mean,
        {"w": whole.diagonal().reshape(3, 4), "b": curvature["b"]},
        sigma=0.7,
        n=30,
        temperature=0.3,
    )

    def objective(q):
        harm = 0.5 * 0.3 * torch.trace(whole @ dense(q, "w").covariance_matrix)
        return 30 * float(harm) + float(dense_kl(dense(q, "w"), dense(prior, "w")))

    assert objective(posterior) < objective(diagonal) - 0.1


def test_what_has_no_meaning_is_refused(fitted):
    posterior, prior, _ = fitted
    with pytest.raises(ValueError, match="not orthogonal"):
        DiagonalGaussian(posterior.mean, posterior.scale, {"w": (2 * torch.eye(3), torch.eye(4))})
    with pytest.raises(ValueError, match="not of its shape"):
        DiagonalGaussian(posterior.mean, posterior.scale, {"w": (torch.eye(4), torch.eye(4))})
    shaped = DiagonalGaussian(prior.mean, {"w": torch.rand(3, 4) + 0.1, "b": 0.7})
    for check in (kl_divergence, lambda q, p: log_density_ratio(q.mean, q, p)):
        with pytest.raises(ValueError, match="one sigma"):
            check(posterior, shaped)
        with pytest.raises(ValueError, match="no basis"):
            check(prior, posterior)
    with pytest.raises(ValueError, match="symmetric"):
        kfac.fit(
            {"w": torch.zeros(2, 2)},
            {"w": (torch.tensor([[1.0, 2], [0, 1]]), torch.eye(2))},
            sigma=1.0,
            n=1,
            temperature=1.0,
        )
