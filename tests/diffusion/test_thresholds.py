"""Thresholds: image by image, and nothing happens to what is in range."""

import pytest
import torch

from dmzcli.diffusion.thresholds import KINDS, bounded, dynamic
from dmzcli.errors import UserError


@pytest.mark.parametrize("kind", KINDS)
def test_images_in_range_are_left(kind):
    x0 = torch.rand(3, 1, 8, 8) * 2 - 1
    bound = bounded(kind)
    assert bound is None if kind == "none" else torch.equal(bound(x0), x0)


def test_dynamic_is_saharias():
    """1 to 100 in steps of 1: the 0.9 quantile is 90.1; what is beyond saturates, the rest is scaled."""
    x0 = torch.arange(1.0, 101.0).reshape(1, 1, 10, 10)
    made = dynamic(x0, 0.9)
    torch.testing.assert_close(made, (x0 / 90.1).clamp(-1, 1))
    torch.testing.assert_close(dynamic(-x0, 0.9), -made)
    assert torch.equal(dynamic(x0, 1.0), x0 / 100)


@pytest.mark.parametrize("percentile", [1e-3, 0.5, 0.9, 0.995, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("pixels", [1, 7, 3072])
def test_the_percentile_is_torchs_quantile(percentile, pixels):
    """Up to its rounding: versions of torch take the rank in float32 or in float64, 1e-7 of 3,072 pixels apart."""
    x0 = 10 * torch.randn(4, pixels, 1, 1, generator=torch.Generator().manual_seed(pixels))
    s = x0.abs().flatten(1).quantile(percentile, dim=1).clamp_min(1)[:, None, None, None]
    torch.testing.assert_close(dynamic(x0, percentile), x0.clamp(-s, s) / s, rtol=1e-4, atol=1e-5)


def test_an_image_is_scaled_by_its_own_pixels():
    x0 = torch.stack([torch.full((1, 4, 4), 0.5), torch.full((1, 4, 4), 8.0)])
    assert torch.equal(dynamic(x0)[0], x0[0]) and torch.equal(dynamic(x0)[1], torch.ones(1, 4, 4))


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"^unknown threshold 'dynamik'$") as error:
        bounded("dynamik")
    assert error.value.hint == "did you mean 'dynamic'?"
    for percentile in (0.0, 1.1, float("nan")):
        with pytest.raises(UserError, match=rf"^--percentile {percentile} is not a number in \(0, 1\]$"):
            bounded("dynamic", percentile)
