"""Recorded evaluations: the same numbers, recorded once per shape, by a pretended recorder; by CUDA's own on a GPU."""

import copy

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dmzcli.diffusion import samplers
from dmzcli.generation.decode import decode
from dmzcli.model import replay
from dmzcli.model.autoencoder import build
from dmzcli.model.layers import KeysValues
from dmzcli.model.replay import Replay


class Recorder:
    """Records as CUDA does: afterwards the function reads and writes where it did at the time, and nowhere else."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, function):
        self.recorded += 1
        output = function().clone()

        def again():
            self.replayed += 1
            output.copy_(function())

        return again, output


def affine(x, t, context):
    values, *_ = context.values()
    return x * t[:, None] + values.values


def context(value):
    return {"middle": KeysValues(None, torch.full((1, 3), float(value)))}


def test_a_replay_is_the_function():
    recorder = Recorder()
    run, bits = Replay(recorder), context(5)
    made = []
    for i in range(4):
        x, t = torch.full((2, 3), float(i)), torch.tensor([1.0, 2.0])
        made.append((run(affine, "f", (x, t), bits), affine(x, t, bits)))
    assert (recorder.recorded, recorder.replayed) == (1, 4)
    for found, expected in made:  # compared in the end: no replay has written over an earlier result
        assert torch.equal(found, expected)


def test_other_constants_are_taken_and_the_same_are_not_copied():
    recorder, x, t = Recorder(), torch.ones(2, 3), torch.ones(2)
    run, five = Replay(recorder), context(5)
    for bits in (five, five, context(7), five):
        assert torch.equal(run(affine, "f", (x, t), bits), affine(x, t, bits))
    assert recorder.recorded == 1
    five["middle"].values.fill_(9)  # said in the docstring: a change in place is not seen
    assert torch.equal(run(affine, "f", (x, t), five), x + 5)


def test_each_shape_type_and_name_is_recorded_and_few_are_kept(monkeypatch):
    recorder = Recorder()
    run = Replay(recorder)
    plain = lambda x, nothing: 2 * x  # noqa: E731
    kinds = [("f", torch.ones(2)), ("f", torch.ones(3)), ("f", torch.ones(2).double()), ("g", torch.ones(2))]
    for _ in range(2):
        for name, x in kinds:
            found = run(plain, name, (x,))
            assert torch.equal(found, 2 * x) and found.dtype == x.dtype
    assert recorder.recorded == len(kinds) == replay.KEPT
    run(plain, "h", (torch.ones(2),))
    assert len(run._kept) == replay.KEPT
    run(plain, *kinds[0][:1], (kinds[0][1],))  # the longest unused was dropped
    assert recorder.recorded == replay.KEPT + 2
    with torch.inference_mode():
        assert torch.equal(run(plain, "h", (torch.ones(2),)), 2 * torch.ones(2))


def test_what_cannot_be_recorded_is_called_and_told_once():
    asked = []

    def refuses(function):
        asked.append(function)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    run, x = Replay(refuses), torch.ones(2)
    with pytest.warns(RuntimeWarning, match="not permitted when stream is capturing"):
        assert torch.equal(run(lambda x, nothing: x + 1, "f", (x,)), x + 1)
    assert torch.equal(run(lambda x, nothing: x + 1, "f", (x,)), x + 1) and len(asked) == 1


def test_only_few_images_on_cuda_are_wanted(monkeypatch):
    assert not replay.wanted(torch.zeros(1, 3, 32, 32))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with FakeTensorMode(), torch.no_grad():
        made = {count: replay.wanted(torch.zeros(count, 3, 32, 32, device="cuda")) for count in (1, 16, 17)}
        with torch.enable_grad():
            assert not replay.wanted(torch.zeros(1, 3, 32, 32, device="cuda"))
    assert made == {1: True, 16: True, 17: False}


@pytest.mark.parametrize("changes", [{}, {"model__tokens": "per-bit"}, {"model__latent": "none"}], ids=str)
def test_decoding_with_recordings_makes_the_same_images(tiny, monkeypatch, changes):
    """Five batches of two images and one of one: two recordings, whatever the bits, and for every sampler."""
    model = build(tiny(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the last layers begin at zero
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    bits = np.random.default_rng(0).integers(0, 2, (11, model.dim), np.uint8) if model.dim else None
    for name in ("ancestral", "unipc"):
        sampler = samplers.create(name, model.config.diffusion, 4)
        expected = decode(model, bits, sampler, range(11), 0, 2)
        recorder = Recorder()
        model._replay = Replay(recorder)
        with monkeypatch.context() as patch:
            patch.setattr(replay, "wanted", lambda x: True)
            found = decode(model, bits, sampler, range(11), 0, 2)
        assert (recorder.recorded, recorder.replayed) == (2, 6 * 4)
        assert np.array_equal(found, expected)


def test_other_weights_are_recorded_anew_and_changed_ones_are_seen(tiny, monkeypatch):
    model, recorder = build(tiny(model__latent="none")).eval(), Recorder()
    model._replay = Replay(recorder)
    monkeypatch.setattr(replay, "wanted", lambda x: True)
    x, t = torch.ones(1, *model.shape), torch.zeros(1, dtype=torch.long)

    def made():
        with torch.no_grad():
            return model.denoiser(None)(x, t)

    bias = model.backbone.out[2].bias
    assert torch.equal(made(), torch.zeros_like(x))
    bias.data.fill_(1.0)
    assert torch.equal(made(), torch.ones_like(x)) and recorder.recorded == 1
    bias.data = torch.full_like(bias, 2.0)
    assert torch.equal(made(), torch.full_like(x, 2.0)) and recorder.recorded == 2
    model.train()
    made()
    assert recorder.replayed == 3  # dropout is drawn anew: training is not recorded


def test_a_copy_of_a_network_records_for_itself(tiny):
    model = build(tiny())
    model._replay._kept["key"] = None
    assert not copy.deepcopy(model)._replay._kept


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("changes", [{}, {"model__tokens": "per-bit"}, {"model__latent": "none"}], ids=str)
def test_cuda_graphs_make_the_same_images(tiny, monkeypatch, changes, precision):
    model = build(tiny(**changes)).eval().cuda()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    bits = np.random.default_rng(0).integers(0, 2, (11, model.dim), np.uint8) if model.dim else None
    sampler = samplers.create("unipc", model.config.diffusion, 10)
    found = decode(model, bits, sampler, range(11), 0, 2, precision=precision)
    assert len(model._replay._kept) == 2 and None not in model._replay._kept.values()
    monkeypatch.setattr(replay, "PIXELS", 0)
    expected = decode(model, bits, sampler, range(11), 0, 2, precision=precision)
    assert np.abs(found.astype(int) - expected).max() <= 1
