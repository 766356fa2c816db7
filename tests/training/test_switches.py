"""Switches of speed and memory: the same steps, up to rounding."""

from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("changes", [{}, {"model__tokens": "per-bit"}])
def test_channels_last_makes_the_same_steps(tiny, few, changes):
    compare(few, tiny(**changes), tiny(**changes, training__channels_last=True))


def test_a_checkpoint_is_of_no_layout(tiny, few, tmp_path):
    """Four steps in one layout, the next four in the other."""
    ends = []
    for first, second in ((False, False), (True, False), (False, True)):
        run = Run(tmp_path / f"{first}-{second}")
        for layout in (first, second):
            trainer = Trainer(tiny(training__channels_last=layout), few, run, accelerator("cpu", "no"))
            assert trainer.resume() == (trainer.step > 0)
            for _ in range(4):
                trainer.train_step()
            trainer.save()
        assert trainer.step == 8
        ends.append(torch.stack([value / 8 for value in trainer.sums.values()]))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_network_makes_the_same_steps(tiny, few):
    compare(few, tiny(), tiny(training__compile=True), count=5)


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
