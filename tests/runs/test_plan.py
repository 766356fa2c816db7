"""Before a run: what wins over what, where it goes, and what it will take."""

import json
from pathlib import Path

import pytest
import torch

from dmzcli.config import list_all_settings, presets
from dmzcli.errors import UserError
from dmzcli.measuring import Kept, flops
from dmzcli.runs.plan import estimate, first_difference, plan
from dmzcli.trainer import build

NOTHING: dict = {}


def test_defaults_then_preset_then_flags_then_set():
    shipped = presets()["digits"]["training"]
    assert plan(None, None, NOTHING, []).config.training.learning_rate == shipped["learning_rate"]
    flags = {"training": {"batch_size": 7, "seed": 5, "steps": None}}
    made = plan("digits", None, flags, ["training.seed=6", "training.learning_rate=0.5"]).config.training
    assert (made.batch_size, made.seed, made.learning_rate, made.steps) == (7, 6, 0.5, shipped["steps"])


def test_a_preset_is_taken_by_the_datasets_name():
    assert (
        plan("digits", None, NOTHING, [])
        == plan(None, "digits", NOTHING, [])
        == plan(None, None, NOTHING, [])
    )
    assert plan("cifar10", None, NOTHING, []).config.model.bits == presets()["cifar10"]["model"]["bits"]
    assert plan(None, "cifar10-small", NOTHING, []).config.data.dataset == "cifar10"


def test_a_preset_on_another_dataset():
    made = plan("digits", "cifar10-small", NOTHING, [])
    assert made.config.data.dataset == "digits" and made.name == "digits-cifar10-small"
    assert plan("cifar10", "cifar10-small", NOTHING, []).name == "cifar10-small"


def test_a_dataset_without_a_preset_takes_the_defaults():
    Path("cats.tar.gz").touch()
    made = plan("cats.tar.gz", None, NOTHING, [])
    assert made.name == "cats" and made.config.data.dataset == str(Path("cats.tar.gz").absolute())


def test_a_folder_named_like_a_dataset_does_not_hide_it():
    Path("digits").mkdir()
    assert plan("digits", None, NOTHING, []).config.data.dataset == "digits"


# Run directories ---------------------------------------------------------------------------------------------


def directory(settings=(), named=None, flags=NOTHING):
    made = plan("digits", None, flags, list(settings))
    return made.directory(made.config.resolved(8, 1), named).path


def test_the_presets_own_settings_have_its_name():
    assert directory() == Path("runs/digits")
    assert directory(flags={"training": {"steps": 3}}) == Path(
        "runs/digits"
    )  # how long is no other experiment


def test_other_settings_have_other_folders():
    folders = {directory(s) for s in ((), ["model.bits=3"], ["model.bits=4"], ["training.seed=1"])}
    assert len(folders) == 4 and all(folder.name.startswith("digits") for folder in folders)
    assert directory(["model.bits=3"]) == directory(["model.bits=3"])


def test_a_named_folder_is_taken_as_it_is():
    assert directory(["model.bits=3"], Path("any/where")) == Path("any/where")


def test_a_folder_of_another_experiment_is_refused(run):
    with pytest.raises(UserError, match=r"^runs/tiny holds another experiment: \S+ is .+ there, .+ here$"):
        directory(["model.bits=3"], run.path)


def test_a_folder_without_a_run_is_taken():
    Path("mine").mkdir()
    assert directory((), Path("mine")) == Path("mine")


def test_the_first_difference_is_told(tiny):
    one, two = tiny().experiment(), tiny(model__bits=3).experiment()
    assert first_difference(one, one) is None
    assert first_difference(one, two) == "model.bits is 8 there, 3 here"


# What it takes -------------------------------------------------------------------------------------------------


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


def test_all_settings_are_listed():
    facts, text = list_all_settings()
    assert set(facts["presets"]) == set(presets())
    for key, setting in facts["settings"].items():
        assert f"{key} = " in text
        assert setting["help"] or key.startswith("training.")
    json.dumps(facts, allow_nan=False)
