"""Optimizers: what a step of each does, in any memory layout, and that a checkpoint holds all of it."""

import pytest
import torch
from torch import nn

from dmzcli.config import TrainingConfig
from dmzcli.training import optimizers


def model(layout=torch.contiguous_format):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32, 20))
    return layers.to(memory_format=layout)


def step(layers, optimizer, seed=0, rate=1e-2):
    generator = torch.Generator().manual_seed(seed)
    loss = (layers(torch.randn(256, 1, 5, 5, generator=generator)) ** 2).mean()
    layers.zero_grad()
    loss.backward()
    optimizer.step(rate)


def test_muon_takes_orthogonal_steps_of_adams_size():
    """All singular values of a step are alike, and its root mean square is 0.2 times the rate."""
    layers = model()
    before = [each.detach().clone() for each in layers.parameters()]
    for each in layers.parameters():
        each.grad = torch.randn(each.shape, generator=torch.Generator().manual_seed(each.numel()))
    optimizers.create(layers, TrainingConfig(optimizer="muon")).step(1e-2)
    for old, new in zip(before, layers.parameters(), strict=True):
        moved = (new.detach() - old).flatten(1) if new.ndim > 1 else new.detach() - old
        if new.ndim > 1 and min(new.shape[:2]) >= optimizers.MATRIX:
            values = torch.linalg.svdvals(moved / 1e-2)
            scale = 0.2 * max(moved.shape) ** 0.5
            assert (0.5 * scale < values).all() and (
                values < 1.4 * scale
            ).all()  # of five Newton–Schulz iterations
        else:
            assert moved.abs().max() == pytest.approx(
                1e-2, rel=1e-3
            )  # the first step of Adam: the rate, by sign


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_muon_steps_as_pytorchs_does(shape):
    """Three steps of one matrix with weight decay; PyTorch iterates in bf16, some 1% off."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (nn.Linear(shape[1], shape[0], bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    mine = optimizers.Muon({"weight": ours.weight}, TrainingConfig(optimizer="muon", weight_decay=0.5))
    other = torch.optim.Muon(theirs.parameters(), lr=1e-2, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.weight.grad = torch.randn(shape, generator=generator)
        theirs.weight.grad = ours.weight.grad.clone()
        mine.step(1e-2)
        other.step()
    assert (ours.weight - theirs.weight).norm() < 0.02 * (ours.weight - start).norm()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_steps_are_the_same_in_either_layout(name):
    """Up to float32 rounding, which the signs of Adam's first steps enlarge."""
    starts = [each.detach().clone() for each in model().parameters()]
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        layers = model(layout)
        optimizer = optimizers.create(layers, TrainingConfig(optimizer=name))
        for seed in range(3):
            step(layers, optimizer, seed)
        ends.append([each.detach().clone() for each in layers.parameters()])
    for start, one, other in zip(starts, *ends, strict=True):
        assert (one - other).norm() < 1e-3 * (one - start).norm()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_steps_go_on_from_a_state(name):
    layers, again = model(), model()
    settings = TrainingConfig(optimizer=name, weight_decay=0.1)
    optimizer, other = optimizers.create(layers, settings), optimizers.create(again, settings)
    step(layers, optimizer)
    again.load_state_dict(layers.state_dict())
    other.restore({key: value.clone() for key, value in optimizer.state().items()})
    for seed in (1, 2):
        step(layers, optimizer, seed)
        step(again, other, seed)
    for one, two in zip(layers.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(KeyError):
        other.restore({})
