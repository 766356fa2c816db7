"""Streams by name: independent of each other, of order and of company."""

import numpy as np
import torch

from dmzcli.system.randomness import ImageNoise, derive, stream, torch_stream


def test_names_are_not_glued_together():
    names = [("a", 1, 2), ("a", 12), ("a/1", 2), ("a", "1", 2), ("a", 1, "2"), (1, "a", 2)]
    assert len({derive(*name) for name in names}) == len(names)
    assert all(0 <= derive(*name) < 2**63 for name in names)


def test_streams_are_functions_of_their_names():
    first = stream("order", 0, 0).random(4)
    assert np.array_equal(first, stream("order", 0, 0).random(4))
    assert not np.array_equal(first, stream("order", 0, 1).random(4))


def test_torch_streams_touch_nothing_global():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    torch.rand(3, generator=torch_stream(torch.device("cpu"), "a"))
    assert torch.equal(torch.rand(1), expected)


def test_an_images_noise_is_its_own():
    cpu, shape = torch.device("cpu"), (1, 3, 3)
    noise = ImageNoise(0, range(5), shape, cpu)
    first, second = noise(), noise()
    alone = ImageNoise(0, [3], shape, cpu)
    assert torch.equal(alone()[0], first[3]) and torch.equal(alone()[0], second[3])
    assert first.dtype == torch.float32 and first.shape == (5, 1, 3, 3)
    assert len({tuple(row.ravel().tolist()) for row in [*first, *second]}) == 10


def test_noise_is_standard_normal():
    values = ImageNoise(1, range(400), (1, 8, 8), torch.device("cpu"))().double()
    n = values.numel()
    # Five standard errors of mean, variance and kurtosis (of error √(24/n)).
    assert abs(values.mean()) < 5 / n**0.5
    assert abs(values.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((values**4).mean() - 3) < 5 * (96 / n) ** 0.5
