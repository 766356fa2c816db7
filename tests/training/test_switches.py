"""Switches of speed and memory: the same steps, up to rounding."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.training.engine import accelerator
from dmzcli.training.trainer import Trainer

VARIANTS = {
    "single-token": {},
    "no-latent": {"model__latent": "none"},
    "per-bit": {"model__tokens": "per-bit", "model__estimator": "straight-through"},
    "weighted": {
        "diffusion__timestep_sampling": "loss-second-moment",
        "diffusion__timesteps": 4,
        "diffusion__variance": "learned-range",
    },
}


def steps(config, few, count):
    """The loss terms of some steps, and the gradients' norms."""
    trainer = Trainer(config, few, Run(Path("unused")), accelerator("cpu", config.training.precision))
    made = []
    for _ in range(count):
        trainer.sums.clear()
        trainer.train_step()
        made.append(torch.stack(list(trainer.sums.values())))
    return torch.stack(made), trainer


def compare(few, plain, switched, count=20):
    expected, one = steps(plain, few, count)
    found, other = steps(switched, few, count)
    # float32: sums are taken in another order, and 20 steps of Adam carry that on.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    # Weights are not compared: a bias before a normalisation has no gradient but rounding, which Adam makes steps of.
    for name, value in one.bare.named_buffers():
        if name.endswith("running_var"):
            torch.testing.assert_close(other.bare.get_buffer(name), value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_accumulation_makes_the_same_steps(tiny, few, changes):
    compare(few, tiny(**changes), tiny(**changes, training__accumulate=4))


def test_accumulated_gradients_are_those_of_the_whole_batch(tiny, few, monkeypatch):
    """One step from the same weights, in float64's stead: float32 rounding alone, relative to the largest."""
    made = []
    for parts in (1, 2, 8):
        config = tiny(training__accumulate=parts)
        trainer = Trainer(config, few, Run(Path("unused")), accelerator("cpu", "no"))
        monkeypatch.setattr(trainer.bare, "zero_grad", lambda **options: None)
        trainer.train_step()
        made.append({name: p.grad.clone() for name, p in trainer.bare.named_parameters()})
    for gradients in made[1:]:
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, made[0][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"model__dropout": 0.3, "model__tokens": "per-bit"}])
def test_checkpointed_activations_make_the_same_steps(tiny, few, changes):
    """Dropout too: its masks are drawn again as they were."""
    compare(few, tiny(**changes), tiny(**changes, training__checkpoint_activations=True))


def test_checkpointed_activations_are_fewer(tiny, few):
    def kept(config):
        trainer = Trainer(config, few, Run(Path("unused")), accelerator("cpu", "no"))
        sizes = {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
            return tensor

        alive = []
        x, t = torch.zeros(16, 1, 8, 8), torch.zeros(16, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            trainer.bare.train()(x, x, t, torch.zeros(16, 8, 2))
        return sum(sizes.values())

    assert kept(tiny(training__checkpoint_activations=True)) < 0.5 * kept(tiny())


COMPILED = {"training__compile": True, "training__channels_last": True}


@pytest.fixture
def uncompiled(monkeypatch):
    """``training.compile`` compiles nothing: what comes with it is to be seen alone."""
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: None)


@pytest.fixture
def traced(monkeypatch):
    """``training.compile`` takes the network apart and runs its parts as they are; no compiler is waited for."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield counters
    torch._dynamo.reset()


def layout(trainer):
    weight = trainer.bare.backbone.middle_block[0].in_layers[2].weight
    return weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("changes", [{}, {"model__tokens": "per-bit"}])
def test_channels_last_makes_the_same_steps(tiny, few, uncompiled, changes):
    compare(few, tiny(**changes), tiny(**changes, **COMPILED))


def test_channels_last_comes_with_compiling_alone(tiny, few, uncompiled):
    made = {}
    for compiled in (False, True):
        config = tiny(training__channels_last=True, training__compile=compiled)
        made[compiled] = layout(Trainer(config, few, Run(Path("unused")), accelerator("cpu", "no")))
    assert made == {False: False, True: True}


def test_channels_last_alone_is_told_and_trains_as_without(dmz, tiny_settings):
    train = ("train", "digits", *tiny_settings, "--max-steps", 2, "--device", "cpu")
    plain = dmz(*train, "--run", "a")
    told = dmz(*train, "--run", "b", "--set", "training.channels_last=true")
    assert plain.code == told.code == 0
    assert "channels_last is left out" in told.err and "channels_last" not in plain.err
    assert (
        Path("a/model.safetensors").read_bytes()[-4096:] == Path("b/model.safetensors").read_bytes()[-4096:]
    )


def test_a_checkpoint_is_of_no_layout(tiny, few, tmp_path, uncompiled):
    """Four steps in one layout, the next four in the other."""
    ends = []
    for first, second in ((False, False), (True, False), (False, True)):
        run = Run(tmp_path / f"{first}-{second}")
        for last in (first, second):
            config = tiny(**COMPILED) if last else tiny()
            trainer = Trainer(config, few, run, accelerator("cpu", "no"))
            assert trainer.resume() == (trainer.step > 0)
            for _ in range(4):
                trainer.train_step()
            trainer.save()
        assert trainer.step == 8
        ends.append(torch.stack([value / 8 for value in trainer.sums.values()]))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-5)


DEEP = {
    "model__tokens": "per-bit",
    "model__multipliers": (1, 2, 3, 4),
    "model__blocks": 2,
    "model__attention": (2, 4),
}


@pytest.mark.parametrize("changes", [{}, DEEP], ids=["shallow", "deep"])
def test_equal_regions_are_compiled_once(tiny, few, traced, changes):
    """As many graphs as there are kinds, sizes and shapes of weights, and no step adds one."""
    config = tiny(**changes, training__compile=True)
    trainer = Trainer(config, few, Run(Path("unused")), accelerator("cpu", "no"))
    different, regions = set(), list(trainer.bare.backbone.regions())
    for region in regions:
        shapes = tuple(tuple(parameter.shape) for parameter in region.parameters())
        region.register_forward_pre_hook(
            lambda module, inputs, shapes=shapes: different.add(
                (type(module), shapes, tuple(inputs[0].shape))
            )
        )
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for _ in range(3):
            trainer.train_step()
    assert traced["stats"]["unique_graphs"] == len(different) < len(regions)


@pytest.mark.parametrize(
    "changes",
    [
        {"model__tokens": "per-bit", "model__dropout": 0.3, "model__resampling": "residual"},
        {"training__checkpoint_activations": True},
        {"training__accumulate": 2, "training__channels_last": True},
    ],
    ids=str,
)
def test_regions_make_the_same_steps(tiny, few, traced, changes):
    plain = {name: value for name, value in changes.items() if name != "training__channels_last"}
    compare(few, tiny(**plain), tiny(**changes, training__compile=True), count=5)
    assert traced["stats"]["unique_graphs"] > 0


def test_a_resumed_compiled_run_ends_with_the_same_weights(tiny, few, traced, tmp_path):
    config, ends = tiny(training__compile=True), []
    for stops in ((8,), (3, 8)):
        run = Run(tmp_path / str(len(stops)))
        for stop in stops:
            trainer = Trainer(config, few, run, accelerator("cpu", "no"))
            assert trainer.resume() == (trainer.step > 0)
            while trainer.step < stop:
                trainer.train_step()
            trainer.save()
        ends.append(trainer.bare.state_dict())
    assert all(torch.equal(value, ends[0][name]) for name, value in ends[1].items())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"training__channels_last": True}], ids=str)
def test_a_compiled_network_makes_the_same_steps(tiny, few, changes):
    compare(few, tiny(), tiny(training__compile=True, **changes), count=5)


def test_bf16_makes_nearly_the_same_steps(tiny, few):
    """bf16 has 8 bits of mantissa: single losses agree to some 2^-8 of their size, and so does their mean."""
    expected, _ = steps(tiny(), few, 5)
    found, _ = steps(tiny(training__precision="bf16", training__accumulate=2), few, 5)
    torch.testing.assert_close(found[:, 0], expected[:, 0], rtol=0.02, atol=0.0)


def test_switches_are_no_other_experiment(tiny):
    switched = tiny(training__accumulate=4, training__checkpoint_activations=True, training__compile=True)
    assert switched.experiment() == tiny().experiment()


def test_batch_must_divide_over_the_parts(tiny):
    with pytest.raises(UserError, match=r"training.batch_size 16 is not a multiple of training.accumulate 3"):
        tiny(training__accumulate=3)
