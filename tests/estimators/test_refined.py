"""The refinement on a problem whose optimum is known: a quadratic risk around a known point."""

import itertools
import math
import time

import pytest
import torch

from estimators import DiagonalGaussian, kl_divergence, mcallester
from estimators.posteriors import isotropic, refined
from estimators.posteriors.refined import Schedule

N, DELTA = 500, 0.05
# Curvatures differ by a factor of 10⁴, so that no single σ suits both tensors.
TARGET = {"flat": torch.full((40,), 0.3), "steep": torch.full((40,), 0.3)}
CURVATURE = {"flat": 1e-4, "steep": 1.0}
PRIOR = isotropic.fit({name: torch.zeros(40) for name in TARGET}, 0.5)


def risk(mean, scale):
    """E_Q of Σ h(θ-target)²/2, in closed form; about 0.1 where the search ends."""
    return sum(
        0.5 * CURVATURE[k] / 40 * ((mean[k] - t).square().sum() + 40 * scale[k] ** 2)
        for k, t in TARGET.items()
    )


def surrogate(mean, scale, step):
    """The same by one draw, its noise from the step alone."""
    generator = torch.Generator().manual_seed(step)
    noisy = {k: mean[k] + scale[k] * torch.randn(40, generator=generator) for k in TARGET}
    return sum(0.5 * CURVATURE[k] / 40 * (noisy[k] - t).square().sum() for k, t in TARGET.items())


def start(sigma=0.05):
    return isotropic.fit(TARGET, sigma)


def bound(posterior):
    return mcallester(
        float(risk(posterior.mean, posterior.scale)), kl_divergence(posterior, PRIOR), N, DELTA
    ).upper


def fit(loss=surrogate, begin=None, prior=PRIOR, **settings):
    settings.setdefault("schedule", Schedule(steps=120))
    return refined.fit(begin or start(), prior, loss, n=N, delta=DELTA, **settings)


def same(left, right):
    return all(torch.equal(left.mean[k], right.mean[k]) for k in left.mean) and dict(
        left.scale
    ) == dict(right.scale)


def distance(posterior):
    return math.sqrt(
        sum(float((m - TARGET[k]).double().square().sum()) for k, m in posterior.mean.items())
    )


def interrupted_at(stop):
    def raising(mean, scale, step):
        if step == stop:
            raise KeyboardInterrupt
        return surrogate(mean, scale, step)

    return raising


@pytest.mark.parametrize("stops", [(0,), (49,), (50,), (51, 99), (51, 52, 119)])
@pytest.mark.parametrize("radius", [None, 0.5])
def test_a_resumed_fit_is_the_uninterrupted_one_bit_for_bit(stops, radius, tmp_path):
    schedule, file = Schedule(steps=120, radius=radius), tmp_path / "state"
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            fit(interrupted_at(stop), schedule=schedule, state_file=file)
    seen = []

    def counting(mean, scale, step):
        seen.append(step)
        return surrogate(mean, scale, step)

    resumed = fit(counting, schedule=schedule, state_file=file)
    assert seen[0] == stops[-1] // refined.SAVE_EVERY * refined.SAVE_EVERY
    assert same(resumed, fit(schedule=schedule))
    seen.clear()  # the last state stays until the caller has what rests on it
    assert same(resumed, fit(counting, schedule=schedule, state_file=file)) and not seen
    assert list(tmp_path.iterdir()) == [file]


def test_a_resumed_fit_that_lists_its_tensors_in_another_order(tmp_path):
    """Adam's moments go by position; the state of one tensor once went to another."""
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted_at(60), state_file=tmp_path / "state")
    backwards = isotropic.fit(dict(reversed(TARGET.items())), 0.05)
    resumed = fit(begin=backwards, state_file=tmp_path / "state")
    assert list(resumed.mean) == ["steep", "flat"]
    whole = fit()  # sums run in another order, so not every bit is the same
    for name in TARGET:
        torch.testing.assert_close(resumed.mean[name], whole.mean[name], rtol=1e-4, atol=1e-5)
        assert resumed.scale[name] == pytest.approx(whole.scale[name], rel=1e-5)


@pytest.mark.parametrize("other", ["start", "prior", "n", "schedule"])
def test_the_state_of_another_fit_is_refused(other, tmp_path):
    file = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted_at(60), state_file=file)
    before = file.read_bytes()
    begin = start(0.06) if other == "start" else start()
    prior = isotropic.fit(PRIOR.mean, 0.6) if other == "prior" else PRIOR
    schedule = Schedule(steps=121 if other == "schedule" else 120)
    n = N + 1 if other == "n" else N
    with pytest.raises(ValueError, match="something else"):
        refined.fit(begin, prior, surrogate, n=n, delta=DELTA, schedule=schedule, state_file=file)
    assert file.read_bytes() == before


def test_a_damaged_state_ends_in_a_sentence(tmp_path):
    file = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted_at(60), state_file=file)
    whole = file.read_bytes()
    torch.save([1], tmp_path / "list")
    for content in (b"", b"{", whole[: len(whole) // 2], (tmp_path / "list").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"state: damaged.*remove it"):
            fit(state_file=file)
        with pytest.raises(ValueError, match="damaged"):
            refined.check_state(file, "")


def test_the_state_of_another_surrogate_can_be_refused_before_a_fit(tmp_path):
    file = tmp_path / "state"
    refined.check_state(None, "a")
    refined.check_state(file, "a")
    fit(state_file=file, about="a")
    refined.check_state(file, "a")
    with pytest.raises(ValueError, match="something else"):
        refined.check_state(file, "b")


def test_radius_zero_keeps_the_mean_and_moves_the_scales():
    kept = fit(schedule=Schedule(steps=120, radius=0))
    assert all(torch.equal(kept.mean[k], t) for k, t in TARGET.items())
    assert all(kept.scale[k] != 0.05 for k in TARGET)
    assert bound(kept) < bound(start())


@pytest.mark.parametrize("radius", [0.01, 0.3])
def test_a_radius_holds(radius):
    assert distance(fit()) > 0.3
    assert distance(fit(schedule=Schedule(steps=120, radius=radius))) <= radius * (1 + 1e-5)


def test_it_ends_below_the_best_isotropic_posterior():
    """Also where the isotropic one may choose its σ freely, at the mean that it is given."""
    isotropics = [bound(start(0.5 * 2 ** (-k / 4))) for k in range(40)]
    assert bound(fit(schedule=Schedule(steps=600))) < min(isotropics) - 0.02


def test_sigma_goes_to_its_analytic_optimum():
    """At a fixed mean, stationarity in σ_k² gives h_k/40 = (1/σ_k² - 1/σ_p²)/(4n·root), with root
    = √((KL + ln(2√n/δ))/2n): a fixed point, iterated to convergence."""
    scale = dict.fromkeys(TARGET, 0.1)
    for _ in range(500):
        at = DiagonalGaussian(TARGET, scale)
        complexity = kl_divergence(at, PRIOR).value + math.log(2 * math.sqrt(N) / DELTA)
        weight = 4 * N * math.sqrt(complexity / (2 * N)) / 40
        scale = {k: (weight * h + 1 / 0.5**2) ** -0.5 for k, h in CURVATURE.items()}
    fitted = fit(
        lambda mean, scale, step: risk(mean, scale),
        schedule=Schedule(steps=1500, radius=0, scale_rate=0.02),
    )
    for name, optimum in scale.items():
        assert fitted.scale[name] == pytest.approx(optimum, rel=1e-3)
    assert fitted.scale["steep"] < 0.6 * fitted.scale["flat"]


def test_a_time_budget_stops_the_fit():
    def slow(mean, scale, step):
        time.sleep(0.02)
        return surrogate(mean, scale, step)

    began = time.monotonic()
    fit(slow, schedule=Schedule(steps=10**6, time_budget=0.5))
    assert 0.4 < time.monotonic() - began < 5
    untouched = fit(schedule=Schedule(steps=10, time_budget=0))
    assert all(torch.equal(untouched.mean[k], t) for k, t in TARGET.items())


def test_a_resumed_fit_does_not_get_its_time_budget_anew(tmp_path, monkeypatch):
    clock = itertools.count()  # a second a look
    monkeypatch.setattr(refined.time, "monotonic", lambda: float(next(clock)))
    schedule, steps = Schedule(steps=10**6, time_budget=100.0), []

    def counting(mean, scale, step):
        steps.append(step)
        if len(steps) == 60:
            raise KeyboardInterrupt
        return surrogate(mean, scale, step)

    with pytest.raises(KeyboardInterrupt):
        fit(counting, schedule=schedule, state_file=tmp_path / "state")
    found = fit(counting, schedule=schedule, state_file=tmp_path / "state")
    assert max(steps) < 105
    steps.clear()  # nor when it had used it up
    assert same(found, fit(counting, schedule=schedule, state_file=tmp_path / "state"))
    assert not steps


@pytest.mark.parametrize("bad_step", [7, 119])
def test_a_gradient_that_is_no_number_never_enters_the_posterior(bad_step):
    """√(x-x) has a finite value and an infinite slope; at the last step nothing else would look."""

    def kinked(mean, scale, step):
        value = surrogate(mean, scale, step)
        return value + (mean["flat"].sum() * 0).sqrt() if step == bad_step else value

    with pytest.raises(ValueError, match=f"gradient is not a number at step {bad_step}"):
        fit(kinked)
    with pytest.raises(ValueError, match="bound is not a number"):
        fit(lambda mean, scale, step: mean["flat"].sum() * math.nan)


def test_nonsense_is_refused():
    for bad in ({"steps": 0}, {"mean_rate": 0.0}, {"scale_rate": math.inf}, {"radius": -1.0}):
        with pytest.raises(ValueError, match=r"step|must"):
            Schedule(**bad)
    with pytest.raises(ValueError, match="name different"):
        fit(prior=isotropic.fit({"flat": torch.zeros(40)}, 0.5))
    with pytest.raises(ValueError, match="shape"):
        fit(prior=isotropic.fit({k: torch.zeros(1) for k in TARGET}, 0.5))
    with pytest.raises(ValueError, match="n >= 1"):
        refined.fit(start(), PRIOR, surrogate, n=0, delta=DELTA)


def test_what_it_was_given_is_left_alone():
    begin = start()
    fit(begin=begin)
    assert same(begin, start())


def test_half_precision_means_are_refined_in_float32():
    half = isotropic.fit({k: t.bfloat16() for k, t in TARGET.items()}, 0.05)
    wide = isotropic.fit({k: t.float() for k, t in half.mean.items()}, 0.05)
    fitted = fit(begin=half)
    assert all(m.dtype == torch.float32 for m in fitted.mean.values())
    assert same(fitted, fit(begin=wide))


def test_a_cheaper_nat_moves_the_mean_further():
    """With a price given the objective is risk + price·KL, whose minimiser is known here."""
    prior = DiagonalGaussian({"w": torch.zeros(1, dtype=torch.float64)}, {"w": 1.0})

    def surrogate(mean, scale, step):
        return 0.5 - 0.1 * mean["w"].sum()  # minimiser of -0.1 m + price·m²/2: m = 0.1/price

    schedule = Schedule(steps=400, mean_rate=0.05, scale_rate=0.02)
    for price in (0.1, 0.2):
        found = refined.fit(
            prior, prior, surrogate, n=100, delta=0.05, schedule=schedule, price=price
        )
        assert float(found.mean["w"]) == pytest.approx(0.1 / price, abs=0.02)
        assert found.scale["w"] == pytest.approx(1.0, abs=0.02)
    with pytest.raises(ValueError, match="price"):
        refined.fit(prior, prior, surrogate, n=100, delta=0.05, price=0.0)
