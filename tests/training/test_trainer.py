"""A trainer: its initialisation, its averaged weights, and checkpoints that are not its own."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dmzcli.errors import UserError
from dmzcli.model.autoencoder import build
from dmzcli.model.pixels import to_unit
from dmzcli.runs import Run
from dmzcli.training import train
from dmzcli.training.ema import Average, exponential, power
from dmzcli.training.engine import accelerator
from dmzcli.training.trainer import Trainer


def test_initialisation_is_the_seeds_alone(tiny):
    torch.manual_seed(1)
    first = build(tiny()).state_dict()
    torch.manual_seed(2)
    second = build(tiny()).state_dict()
    other = build(tiny(training__seed=1)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_averaged_weights_are_the_exponential_average(tiny):
    model = build(tiny())
    average = Average(model, exponential(0.9))
    name = "encoder.linear.weight"
    expected = model.state_dict()[name].clone()
    for step in range(1, 20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.state_dict()[name]
        average.update(model, step)
    # float32, nineteen steps
    torch.testing.assert_close(average.model.state_dict()[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [0.02, 0.1, 0.25])
def test_a_power_average_has_its_relative_width(length):
    """What the weights of each of 4,000 steps count: the deviation of the step is the width's share of all steps."""
    beta = power(length)
    counts = np.zeros(4001)
    for step in range(1, 4001):
        counts *= beta(step)
        counts[step] = 1 - beta(step)
    steps = np.arange(4001)
    mean = (counts * steps).sum()
    assert counts.sum() == pytest.approx(1)
    assert math.sqrt((counts * (steps - mean) ** 2).sum()) / 4000 == pytest.approx(length, rel=0.01)
    # It starts with the first weights: nothing of the random ones is left.
    assert beta(1) == 0


def test_a_width_that_no_power_has_is_refused():
    with pytest.raises(ValueError, match="no power function"):
        power(0.29)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 64, b"not safetensors at all"])
def test_damaged_checkpoint_is_named(tiny, few, run, content):
    run.state.write_bytes(content)
    with pytest.raises(UserError, match=r"state\.safetensors is not a whole safetensors file"):
        train(tiny(), few, run, "cpu")


def test_truncated_checkpoint_is_named(tiny, few, run):
    whole = run.state.read_bytes()
    for keep in (8, len(whole) // 2, len(whole) - 1):
        run.state.write_bytes(whole[:keep])
        with pytest.raises(UserError, match=r"state\.safetensors is not a whole safetensors file"):
            train(tiny(), few, run, "cpu")
        assert run.state.read_bytes() == whole[:keep]  # left for its owner


@pytest.mark.parametrize("metadata", [None, {"dmz-train-state": "no json"}, {"dmz-train-state": "{}"}])
def test_foreign_checkpoint_is_named(tiny, few, run, metadata):
    from dmzcli.system.files import load_tensors, save_tensors

    tensors, _ = load_tensors(run.state)
    save_tensors(run.state, tensors, metadata)
    with pytest.raises(UserError, match=r"state\.safetensors is no checkpoint of this model"):
        train(tiny(), few, run, "cpu")


def test_checkpoint_of_other_settings_or_other_data_is_named(tiny, few, digits, run):
    with pytest.raises(UserError, match=r"state\.safetensors is a checkpoint of other settings"):
        train(tiny(model__bits=5), digits, run, "cpu")
    with pytest.raises(
        UserError, match=r"was trained on digits/\S+, but the dataset is now digits-subset/160$"
    ):
        train(tiny(), few, run, "cpu")


def test_batch_must_divide_over_the_processes(tiny, few, monkeypatch):
    engine = accelerator("cpu", "no")
    monkeypatch.setattr(type(engine), "num_processes", 3)
    with pytest.raises(UserError, match=r"^training.batch_size 16 is not a multiple of 3 processes$"):
        Trainer(tiny(), few, Run(Path("run")), engine)


def test_both_precisions_train_in_one_process(tiny, few):
    for precision in ("no", "bf16", "no"):
        run = Run(Path(f"run-{precision}"))
        assert train(tiny(training__steps=2, training__precision=precision), few, run, "cpu").finished


def test_averaged_weights_have_moments_of_their_own(tiny, few):
    """Behind its batch norm, each channel has mean 0 and variance 1 over the images that were measured."""
    config = tiny(training__ema=0.99)
    trainer = Trainer(config, few, Run(Path("unused")), accelerator("cpu", "no"))
    for _ in range(30):
        trainer.train_step()
    encoder, x = trainer.averaged().encoder, to_unit(few.images[trainer.some_rows])
    with torch.no_grad():
        for layer in encoder.convolutions:
            x = layer(x)
            if isinstance(layer, torch.nn.BatchNorm2d):
                normalized = (x - layer.bias[:, None, None]) / layer.weight[:, None, None]
                # One batch of 100 images: its moments, but for epsilon, and for the unbiased variance that evaluation
                # divides by: of 400 values or more, it scales what the next layer sees by up to 1/800.
                assert normalized.mean((0, 2, 3)).abs().max() < 2e-3
                assert (normalized.var((0, 2, 3)) - 1).abs().max() < 0.02
    live = dict(trainer.bare.encoder.named_buffers())
    assert any(
        not torch.allclose(value, live[name], rtol=0.01)
        for name, value in encoder.named_buffers()
        if name.endswith("running_var")
    )


def test_a_finished_run_keeps_its_weights(run, digits):
    """Running the command again measures nothing anew, so that tables and samples stay those of the weights."""
    before = run.weights.read_bytes()
    train(run.config, digits, run, "cpu")
    assert run.weights.read_bytes() == before


def test_no_image_counts_more_than_another(tiny):
    """One white image after a full batch of noise hardly moves the moments: it is one of 65."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    both = np.concatenate([noise, np.full((1, 8, 8, 1), 255, np.uint8)])
    means = []
    for images in (noise, both):
        model = build(tiny()).eval()
        model.remeasure(images, batch_size=64)
        layer = model.encoder.convolutions[1]
        means.append(layer.running_mean / layer.running_var.sqrt())
    # By its share alone it moves a mean by its own distance / 65; as half of the average by half of that distance.
    assert (means[1] - means[0]).abs().max() < 0.2


def test_moments_of_large_images_are_measured_few_at_a_time(tiny):
    """A mapped file of large images is never in memory whole: no more pixels than 512 images of 32×32 have."""

    class Mapped(np.ndarray):
        def __getitem__(self, rows):
            seen.append(len(rows))
            return np.asarray(self)[rows]

    seen = []
    model = build(tiny(data__size=64, model__attention=(32,), model__cross_attention=(32,))).eval()
    images = np.zeros((300, 64, 64, 1), np.uint8).view(Mapped)
    model.remeasure(images, np.arange(0, 300, 2))
    assert sum(seen) == 150 and max(seen) <= 128


def test_moments_are_those_of_all_images_however_few_a_part_holds(tiny):
    """Images of different brightness: the variance between parts counts, too."""
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 40, (64, 8, 8, 1)) + 3 * np.arange(64)[:, None, None, None]).astype(np.uint8)
    found = []
    for batch_size in (64, 4):
        model = build(tiny()).eval()
        model.remeasure(images, batch_size=batch_size)
        layer = model.encoder.convolutions[1]
        found.append((layer.running_mean, layer.running_var))
    for whole, parts in zip(*found, strict=True):
        # The unbiased variance of parts of 4 images of 16 values is larger by 1/63 of itself, of all by 1/1023.
        np.testing.assert_allclose(parts, whole, rtol=0.02)
