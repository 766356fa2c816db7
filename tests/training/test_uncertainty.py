"""The learnt uncertainty: its minimum, its scale, and its state."""

import numpy as np
import pytest
import torch

from dmzcli.training.uncertainty import Uncertainty

LEVELS = np.linspace(5, -5, 200)
CPU = torch.device("cpu")


def fitted(steps, seed=0):
    """After losses of expectation e^{λ / 2} at λ, drawn with a spread of a half."""
    made, generator = Uncertainty(LEVELS, seed, CPU), torch.Generator().manual_seed(1)
    means = torch.from_numpy(np.exp(LEVELS / 2)).float()
    for _ in range(steps):
        index = torch.randint(200, (64,), generator=generator)
        made.update(index, means[index] * (0.5 + torch.rand(64, generator=generator)))
    return made, means


def test_it_learns_the_logarithm_of_the_expected_loss():
    made, means = fitted(3000)
    assert (made.logs() - means.log()).abs().mean() < 0.2  # of ±2.5
    # Losses that are divided by it count alike at every level.
    even = means * made.factors(torch.arange(200))
    assert even.std() / even.mean() < 0.25 < means.std() / means.mean()


def test_its_factors_have_a_mean_of_one():
    everything = torch.arange(200)
    assert (Uncertainty(LEVELS, 0, CPU).factors(everything) == 1).all()
    assert fitted(100)[0].factors(everything).mean() == pytest.approx(1, rel=1e-5)


def test_it_goes_on_from_its_state():
    (made, means), (other, _) = fitted(50), fitted(3)
    other.restore({name: value.clone() for name, value in made.state().items()})
    for each in (made, other):
        each.update(torch.arange(64), means[:64])
    assert torch.equal(made.logs(), other.logs())
    with pytest.raises(ValueError, match=r"uncertainty\.weights is \(2,\)"):
        other.restore({**made.state(), "weights": torch.zeros(2)})


def test_a_level_of_noise_alone_has_one_too():
    made = Uncertainty(np.append(LEVELS, -np.inf), 0, CPU)
    made.update(torch.tensor([200]), torch.tensor([2.0]))
    assert torch.isfinite(made.logs()).all()
