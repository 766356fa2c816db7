"""Drawing timesteps by their loss: the published law, and an expectation that stays what it was."""

import math

import numpy as np
import pytest
import torch

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion import timesteps
from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.timesteps import HISTORY, UNIFORM, LossSecondMoment
from dmzcli.training.draws import draw

LOSSES = np.array([4.0, 0.5, 1.0, 0.0, 2.0])


def full(losses=LOSSES):
    """One that has seen every timestep ten times, with constant losses."""
    made, index = LossSecondMoment(len(losses)), torch.arange(len(losses))
    for _ in range(HISTORY):
        made.update(index, torch.from_numpy(losses))
    return made


def test_even_until_all_were_seen_ten_times():
    made = LossSecondMoment(5)
    for _ in range(HISTORY - 1):
        made.update(torch.arange(5), torch.from_numpy(LOSSES))
        assert (made.probabilities() == 0.2).all()
    made.update(torch.arange(4), torch.from_numpy(LOSSES[:4]))
    assert (made.probabilities() == 0.2).all()  # one is still missing
    made.update(torch.tensor([4]), torch.tensor([2.0]))
    np.testing.assert_allclose(made.probabilities(), (1 - UNIFORM) * LOSSES / 7.5 + UNIFORM / 5)


def test_the_root_of_the_second_moment_of_the_last_ten():
    made = full()
    for loss in range(1, HISTORY + 1):  # twice the history: the first ten are forgotten
        made.update(torch.tensor([1, 1]), torch.tensor([100.0, float(loss)]))
    for loss in range(1, HISTORY + 1):
        made.update(torch.tensor([1]), torch.tensor([float(loss)]))
    moment = math.sqrt(sum(loss**2 for loss in range(1, 11)) / 10)
    expected = np.array([4, moment, 1, 0, 2])
    np.testing.assert_allclose(made.probabilities(), (1 - UNIFORM) * expected / expected.sum() + UNIFORM / 5)


def test_the_weighted_loss_is_unbiased():
    """Evenly spread numbers integrate exactly, but for one cell at each of the five steps: weight × loss is at most
    max w L, and a cell is 1/M of the average."""
    made, count = full(), 100_000
    index, weight = made.draw((torch.arange(count) + 0.5) / count)
    values = weight.numpy() * LOSSES[index.numpy()]
    assert values.mean() == pytest.approx(LOSSES.mean(), abs=5 * values.max() / count + 1e-6)
    assert weight.numpy().mean() == pytest.approx(1, abs=5 * weight.max().item() / count + 1e-6)
    # And its variance is below that of even draws: the weighted losses are nearly constant.
    assert values.var() < 0.01 * LOSSES.var()


def test_losses_that_all_vanish_are_drawn_evenly():
    assert (full(np.zeros(5)).probabilities() == 0.2).all()


def test_the_last_numbers_below_one_stay_in_range():
    index, _ = full().draw(torch.tensor([0.0, 1 - 2**-24]))
    assert index.tolist() == [0, 4]


def test_a_state_comes_back():
    made, other = full(), LossSecondMoment(5)
    other.restore({name: value.clone() for name, value in made.state().items()})
    for one in (made, other):
        one.update(torch.tensor([2]), torch.tensor([9.0]))
    np.testing.assert_array_equal(made.probabilities(), other.probabilities())
    with pytest.raises(ValueError, match=r"^timesteps\.history is \(5, 10\), not \(6, 10\)$"):
        LossSecondMoment(6).restore(made.state())


def test_draws_carry_their_weights(tiny):
    made = LossSecondMoment(50)
    losses = torch.linspace(0.1, 2, 50)
    for _ in range(HISTORY):
        made.update(torch.arange(50), losses)
    numbers = draw(tiny(), 16, torch.device("cpu"), "test", timesteps=made)
    np.testing.assert_allclose(numbers.weight, 1 / (50 * made.probabilities()[numbers.index]), rtol=1e-6)
    assert torch.equal(numbers.part(1, 2).weight, numbers.weight[8:])
    assert (draw(tiny(), 16, torch.device("cpu"), "test").weight == 1).all()


def test_logit_normal_timesteps_have_that_distribution():
    """The median of t / N is ½, and 68.27% lie where the logit is within ±1: between .269 and .731."""
    law = timesteps.create(DiffusionConfig(timestep_sampling="logit-normal"))
    cumulative = np.cumsum(law.probabilities())
    u = (np.arange(1000) + 1) / 1000
    assert cumulative[499] == pytest.approx(0.5, abs=1e-9)
    assert np.interp(0.7311, u, cumulative) - np.interp(0.2689, u, cumulative) == pytest.approx(
        0.6827, abs=1e-3
    )
    index, weight = law.draw((torch.arange(10_000) + 0.5) / 10_000)
    assert (weight == 1).all() and abs(index.float().mean() - 499.5) < 1


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_log_normal_noise_levels_have_that_distribution_whatever_the_schedule(schedule):
    config = DiffusionConfig(timestep_sampling="log-normal", schedule=schedule)
    law, level = timesteps.create(config), -Diffusion(config).half_log_snr
    p = law.probabilities()
    mean = (p * level).sum()
    assert mean == pytest.approx(-1.2, abs=0.05)
    assert math.sqrt((p * (level - mean) ** 2).sum()) == pytest.approx(
        1.2, abs=0.07
    )  # linear has few low levels


def test_a_fixed_law_needs_no_checkpoint():
    law = timesteps.create(DiffusionConfig(timestep_sampling="logit-normal"))
    before = law.probabilities().copy()
    law.update(torch.tensor([3]), torch.tensor([100.0]))
    law.restore(law.state())
    assert law.state() == {} and (law.probabilities() == before).all()
    assert timesteps.create(DiffusionConfig()) is None
