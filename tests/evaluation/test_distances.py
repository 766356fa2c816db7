"""Distances between images and their reconstructions."""

from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch_fidelity.registry import SAMPLE_SIMILARITY_REGISTRY, register_sample_similarity
from torch_fidelity.sample_similarity_base import SampleSimilarityBase

from dmzcli.evaluation.distances import distances

RNG = np.random.default_rng(0)


class Offset(SampleSimilarityBase):
    """Mean absolute difference: a similarity that can be computed by hand."""

    def __init__(self, name, **options):
        super().__init__(name)

    def forward(self, a, b):
        assert a.shape[1] == 3 and a.dtype == torch.uint8
        return (a.float() - b.float()).abs().mean((1, 2, 3))


@pytest.fixture
def offset():
    register_sample_similarity("offset", Offset)
    yield "offset"
    del SAMPLE_SIMILARITY_REGISTRY["offset"]


def test_a_constant_error_has_its_closed_form(offset):
    images = RNG.integers(0, 200, (6, 16, 16, 1), np.uint8)
    found, absent = distances(images, images + 51, offset)
    values = {score.metric: score.value for score in found}
    assert values["mse"] == pytest.approx(0.04) and values["psnr"] == pytest.approx(-10 * np.log10(0.04))
    assert values["lpips"] == pytest.approx(51) and 0 < values["ssim"] < 1 and not absent
    assert all(score.error < 1e-6 for score in found if score.metric != "ssim")


def test_exact_images():
    images = RNG.integers(0, 256, (3, 16, 16, 3), np.uint8)
    values = {score.metric: score.value for score in distances(images, images)[0]}
    assert values["mse"] == 0 and values["ssim"] == pytest.approx(1)
    assert values["psnr"] == pytest.approx(-20 * np.log10(0.5 / 255))  # finite, and beyond any real one


def test_ssim_of_structure_and_of_none():
    images = RNG.integers(0, 256, (4, 32, 32, 1), np.uint8)
    other = RNG.integers(0, 256, (4, 32, 32, 1), np.uint8)
    values = {score.metric: score.value for score in distances(images, other)[0]}
    assert abs(values["ssim"]) < 0.1


def test_what_cannot_be_measured_is_said(monkeypatch):
    small = np.zeros((2, 8, 8, 1), np.uint8)
    found, absent = distances(small, small, "lpips-vgg16")
    assert [score.metric for score in found] == ["mse", "psnr"]
    assert "below 11 pixels" in absent["ssim"] and "below 16" in absent["lpips"]
    from torch_fidelity import sample_similarity_lpips

    def refuse(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr(sample_similarity_lpips, "load_state_dict_from_url", refuse)
    larger = np.zeros((2, 16, 16, 1), np.uint8)
    assert "cannot be downloaded" in distances(larger, larger, "lpips-vgg16")[1]["lpips"]
