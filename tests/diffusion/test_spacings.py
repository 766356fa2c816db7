"""Spacings: every one keeps distinct timesteps in range, and each the ones that its name promises."""

import numpy as np
import pytest

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.spacings import spaced_timesteps, spacings
from dmzcli.errors import UserError


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("timesteps", [2, 7, 50, 1000])
@pytest.mark.parametrize("spacing", spacings())
def test_distinct_ascending_and_in_range(spacing, timesteps, schedule):
    config = DiffusionConfig(timesteps=timesteps, schedule=schedule)
    for steps in {1, 2, 5, 7, 10, 49, 50, timesteps - 1, timesteps}:
        try:
            kept = spaced_timesteps(config, steps, spacing)
        except UserError:
            assert steps > timesteps or spacing == "ddim"
            continue
        assert len(kept) == steps and (np.diff(kept) > 0).all()
        assert kept[0] >= 0 and kept[-1] < timesteps


@pytest.mark.parametrize("spacing", spacings())
def test_all_timesteps_are_all_timesteps_and_one_is_the_noise(spacing):
    config = DiffusionConfig(timesteps=50)
    np.testing.assert_array_equal(spaced_timesteps(config, 50, spacing), np.arange(50))
    np.testing.assert_array_equal(spaced_timesteps(config, 1, spacing), [49])


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("uniform", [0, 333, 666, 999]),
        ("ddim", [0, 250, 500, 750]),
        ("leading", [0, 250, 500, 750]),
        ("trailing", [249, 499, 749, 999]),
        ("quadratic", [0, 111, 444, 999]),
        ("leading-quadratic", [0, 83, 333, 750]),
    ],
)
def test_four_of_a_thousand(spacing, expected):
    np.testing.assert_array_equal(spaced_timesteps(DiffusionConfig(), 4, spacing), expected)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_log_snr_is_equidistant_up_to_the_grid(schedule):
    """Each kept λ is within a timestep's change of λ of its target; a cosine schedule ends at −5.1."""
    config = DiffusionConfig(schedule=schedule)
    whole = Diffusion(config).half_log_snr
    kept = spaced_timesteps(config, 10, "log-snr")
    wanted = np.linspace(whole[0], max(whole[-1], -5.1), 10)
    near = np.abs(np.gradient(whole))[kept]
    assert (np.abs(whole[kept] - wanted) <= near + 1e-9).all()


def test_crowded_ends_take_their_neighbours():
    """The quadratic spacing asks for 0 many times over at 40 of 50; none is taken twice, none is left out."""
    kept = spaced_timesteps(DiffusionConfig(timesteps=50), 40, "quadratic")
    assert len(set(kept)) == 40 and kept[0] == 0 and kept[-1] == 49


@pytest.mark.parametrize("steps", [0, -1, 51])
def test_steps_beyond_the_timesteps_are_refused(steps):
    with pytest.raises(UserError, match=rf"^--steps {steps} does not fit a model of 50 timesteps$"):
        spaced_timesteps(DiffusionConfig(timesteps=50), steps)


def test_steps_without_a_whole_stride_are_refused():
    with pytest.raises(UserError, match=r"^no whole stride takes 37 of 50 timesteps$") as error:
        spaced_timesteps(DiffusionConfig(timesteps=50), 37, "ddim")
    assert "--spacing uniform" in error.value.hint
