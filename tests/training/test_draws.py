"""What goes into a step: every image once an epoch, and random numbers of the right laws."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from dmzcli.training.draws import batch_rows, draw

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("batch", "count"), [(16, 160), (16, 100), (7, 5), (1, 9), (128, 100), (10, 10), (250, 100)]
)
def test_each_epoch_covers_every_image_once(batch, count):
    steps = math.lcm(batch, count) // batch * 2
    rows = np.concatenate([batch_rows(3, step, batch, count) for step in range(steps)])
    epochs = rows.reshape(-1, count)
    assert (np.sort(epochs, 1) == np.arange(count)).all()
    if count > 5:  # two permutations of six are equal with probability 1/720 or less; the seed is fixed
        assert all((a != b).any() for a, b in pairwise(epochs))


def test_order_is_a_function_of_seed_and_step():
    later = batch_rows(0, 50, 16, 100)
    for step in (3, 50, 7):
        batch_rows(0, step, 16, 100)
    assert np.array_equal(batch_rows(0, 50, 16, 100), later)
    assert not np.array_equal(batch_rows(1, 50, 16, 100), later)


def test_draws_are_named(tiny):
    first, again = (draw(tiny(), 16, CPU, "step", 0, 5) for _ in range(2))
    other = draw(tiny(), 16, CPU, "step", 0, 6)
    for name in ("index", "noise", "perturbed", "codes", "flip"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_draws_leave_global_randomness(tiny):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    draw(tiny(), 16, CPU, "step", 0, 5)
    assert torch.equal(torch.rand(2), expected)


def test_draws_have_their_laws(tiny):
    count = 4000
    numbers = draw(tiny(diffusion__perturbation=0.5), count, CPU, "law")
    pixels = count * 64
    # Five standard errors each: 1/√n of a mean of unit variance, √(2/n) of the variance.
    assert abs(numbers.noise.mean()) < 5 / math.sqrt(pixels)
    assert abs(numbers.noise.var() - 1) < 5 * math.sqrt(2 / pixels)
    extra = (numbers.perturbed - numbers.noise) / 0.5
    assert abs(extra.var() - 1) < 5 * math.sqrt(2 / pixels)
    assert abs((extra * numbers.noise).mean()) < 5 / math.sqrt(pixels)  # independent
    # Gumbel(0, 1): mean 0.5772, variance π²/6 (kurtosis 5.4, so the variance's error is √(4.4/n)·π²/6).
    gumbels = count * 16
    assert numbers.codes.shape == (count, 8, 2) and torch.isfinite(numbers.codes).all()
    assert abs(numbers.codes.mean() - 0.57722) < 5 * math.pi / math.sqrt(6 * gumbels)
    assert abs(numbers.codes.var() - math.pi**2 / 6) < 5 * math.pi**2 / 6 * math.sqrt(4.4 / gumbels)
    # Timesteps: χ² over 50 cells; 49 degrees of freedom exceed 85.4 with probability 0.001.
    counts = torch.bincount(numbers.index, minlength=50).double()
    assert len(counts) == 50 and ((counts - count / 50) ** 2 / (count / 50)).sum() < 85.4
    assert abs(numbers.flip.double().mean() - 0.5) < 5 * 0.5 / math.sqrt(count)


def test_without_perturbation_and_latent_there_is_neither(tiny):
    numbers = draw(tiny(model__latent="none"), 4, CPU, "test")
    assert numbers.perturbed is numbers.noise and numbers.codes is None
    assert numbers.part(1, 2).codes is None


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_parts_make_the_whole(tiny, ranks):
    whole = draw(tiny(), 16, CPU, "test")
    parts = [whole.part(rank, ranks) for rank in range(ranks)]
    for name in ("index", "weight", "noise", "perturbed", "codes", "flip"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
