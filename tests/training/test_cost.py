"""What a training step takes: counted parameters, activations and FLOPs are those of the model."""

import pytest
import torch

from dmzcli.model.autoencoder import build
from dmzcli.training.cost import Kept, estimate, flops

NOTHING: dict = {}


@pytest.mark.parametrize("changes", [{}, {"model__latent": "none"}, {"model__tokens": "per-bit"}])
def test_parameters_are_those_of_the_model(tiny, changes):
    config = tiny(**changes)
    model = build(config)
    made = estimate(config)
    assert made["parameters"] == sum(p.numel() for p in model.parameters())
    assert made["memory_bytes"]["weights"] == sum(p.nbytes for p in model.parameters())


def test_activations_are_those_that_a_step_keeps(tiny):
    """Against the real thing: every storage that autograd saves, counted once, but for the weights'."""
    config = tiny(training__batch_size=32)
    model = build(config).train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    x = torch.zeros(32, 1, 8, 8)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(x, x, torch.zeros(32, dtype=torch.long), torch.zeros(32, 8, 2))
    # Fused kernels of the CPU may save a different small tensor than the shape-only run: 20 %.
    assert estimate(config)["memory_bytes"]["activations"] == pytest.approx(sum(kept.values()), rel=0.2)


def test_activations_grow_with_the_batch(tiny):
    small, large = (estimate(tiny(training__batch_size=b))["memory_bytes"] for b in (16, 64))
    assert small["weights"] == large["weights"]
    assert large["activations"] == pytest.approx(4 * small["activations"], rel=0.1)


def test_switches_that_save_memory_are_estimated_too(tiny):
    plain, parts, checkpointed = (
        estimate(tiny(training__batch_size=32, **changes))["memory_bytes"]["activations"]
        for changes in ({}, {"training__accumulate": 4}, {"training__checkpoint_activations": True})
    )
    assert parts < 0.4 * plain  # the encoder sees the whole batch still
    assert checkpointed < 0.5 * plain


def test_flops_are_those_of_the_layers(tiny):
    """A forward pass has two operations a weight and position; a backward pass twice that, but for the first input's.

    Every convolution and linear layer of a model without a latent is counted by a hook, attention's two products
    by hand.
    """
    config = tiny(model__latent="none")
    model, counted = build(config), [0]

    def note(layer, inputs, output):
        positions = output.numel() // layer.weight.shape[0]
        products = 2 * layer.weight.numel() * positions
        # No gradient goes to the images and to the timesteps' sinusoids.
        counted[0] += (3 if inputs[0].requires_grad else 2) * products
        if isinstance(layer, torch.nn.Conv1d) and layer.weight.shape[0] == 3 * layer.weight.shape[1]:
            width, places = inputs[0].shape[1:]
            counted[0] += 3 * 2 * 2 * width * places**2  # QKᵀ, and its softmax times V

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(note)
    x = torch.zeros(1, 1, 8, 8)
    model(x, x, torch.zeros(1, dtype=torch.long))
    assert flops(config) == counted[0]


def test_what_is_kept_for_the_backward_pass_is_counted_by_its_storages():
    """A linear layer keeps its input, the tanh its output, the product both factors; what is kept twice counts once."""
    layer = torch.nn.Linear(3, 5, bias=False)
    kept = Kept(layer)
    x = torch.zeros(7, 3)
    with kept.hooks():
        h = torch.tanh(layer(x))
        loss = (h * h.detach().clone().requires_grad_()).sum()
        assert kept.most == 4 * (7 * 3 + 7 * 5 + 7 * 5)
        loss.backward()
        del loss, h
        torch.tanh(layer(x))
        assert kept.most == 4 * (7 * 3 + 7 * 5 + 7 * 5)  # what the backward pass has done with is free again


def test_a_measurement_ends_in_time_with_what_it_has(tiny, monkeypatch):
    """The process is cut off in the middle of its work: the figures of the steps before count."""
    import subprocess

    from dmzcli.training import cost

    first = '{"steps": 1, "warm": false, "seconds_per_1000_steps": 9000.0}\n'

    def late(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("python", timeout, output=output)

    monkeypatch.setattr(cost.subprocess, "run", late)
    output = (first + '{"steps": 2, "wa').encode()
    assert cost.measure(tiny(), "cpu")["seconds_per_1000_steps"] == 9000
    output = None
    assert cost.measure(tiny(), "cpu") == {"why_not": "a step takes more than 20 seconds here"}
