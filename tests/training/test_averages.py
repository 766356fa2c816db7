"""Averages of any length, made afterwards of the two that a training kept."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.system.files import load_tensors
from dmzcli.training import train
from dmzcli.training.averages import Profile, coefficients, reconstructed
from dmzcli.training.ema import gamma
from dmzcli.training.snapshots import LENGTHS, due

STEPS = 80


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_run):
    """A run of 80 steps that kept averages, and what its power average of length 0.15 really is."""
    folder = tmp_path_factory.mktemp("averages")
    tracked = make_run(
        "power", training__average="power", training__average_length=0.15, training__steps=STEPS
    )
    shutil.copytree(tracked / "runs" / "power", folder / "power")
    return Run(folder / "power")


def test_profiles_have_the_inner_products_of_their_integrals():
    grid = (np.arange(100_000) + 0.5) / 1000  # steps up to 100

    def values(profile):
        inside = grid <= profile.step
        return inside * (profile.gamma + 1) * (grid / profile.step) ** profile.gamma / profile.step

    one, two = Profile(60, 3.5), Profile(100, 16.0)
    for p, q in ((one, two), (two, one), (one, one)):
        assert p.dot(q) == pytest.approx((values(p) * values(q)).sum() / 1000, rel=1e-3)


@pytest.mark.parametrize("steps", [1500, 6000])
def test_two_lengths_span_the_others(steps):
    kept = [step for step in range(steps // 20, steps) if due(step)] + [steps]
    profiles = [Profile(step, gamma(length)) for step in kept for length in LENGTHS]
    for length in (0.04, 0.07, 0.15, 0.2, 0.25):
        values, distance = coefficients(profiles, Profile(steps, gamma(length)))
        assert distance < 0.06 and values.sum() == pytest.approx(1, abs=0.02)
    values, distance = coefficients(profiles, Profile(steps, gamma(LENGTHS[1])))
    assert distance < 1e-6 and np.abs(values[:-1]).max() < 1e-6  # the last one, and nothing else


def test_a_reconstruction_is_the_average_that_training_had_kept(trained):
    """That of length 0.15 was tracked as the run's own average; other lengths are farther away than its error."""
    true = {name: value for name, value in load_tensors(trained.weights)[0].items()}
    made = {length: reconstructed(trained, length) for length in (0.1, 0.15, 0.2)}
    names = list(made[0.15].parameters)

    def distance(parameters):
        return float(sum(((parameters[name] - true[name]) ** 2).sum() for name in names)) ** 0.5

    assert made[0.15].step == STEPS and made[0.15].distance < 0.05
    near = distance(made[0.15].parameters)
    assert near < 0.1 * min(distance(made[0.1].parameters), distance(made[0.2].parameters))


def test_a_killed_run_keeps_the_averages_of_an_undisturbed_one(tiny, few, monkeypatch):
    config = tiny(training__average="power", training__steps=45, training__checkpoint_every=20)
    for name, stops in (("whole", [45]), ("stopped", [34, 45])):
        for stop in stops:
            with monkeypatch.context() as patch:
                if stop < 45:
                    from dmzcli.training.trainer import Trainer

                    step = Trainer.train_step

                    def die(self, step=step, stop=stop):
                        if self.step == stop:
                            raise KeyboardInterrupt
                        step(self)

                    patch.setattr(Trainer, "train_step", die)
                    with pytest.raises(KeyboardInterrupt):
                        train(config, few, Run(Path(name)), "cpu")
                else:
                    train(config, few, Run(Path(name)), "cpu")
    files = [sorted(Run(Path(name)).averages.iterdir()) for name in ("whole", "stopped")]
    assert [file.name for file in files[0]] == [file.name for file in files[1]] and len(files[0]) >= 2
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_command_writes_a_run_that_others_take(dmz, trained):
    done = dmz("average", trained.path, "--length", 0.2, "--device", "cpu", "--json").json
    assert done["length"] == 0.2 and done["step"] == STEPS
    out = Path(done["run"])
    assert out.name == "power-average-0.2" and Run(out).config.training.average_length == 0.2
    assert dmz("encode", "--run", out, "--device", "cpu", "--json").json["dim"] == 8
    # Again over itself, but over nothing else; and no training goes on from it.
    assert dmz("average", trained.path, "--length", 0.2, "--device", "cpu", "--json").json == done
    message, hint = dmz("average", trained.path, "--out", trained.path, "--device", "cpu").mistake()
    assert "holds something else than an average" in message and "--out" in hint
    message, hint = dmz("train", "--run", out, "--max-steps", 99, "--device", "cpu").mistake()
    assert "holds averaged weights alone" in message and str(trained.path) in hint


def test_what_cannot_be_averaged_is_told(dmz, run, trained):
    message, hint = dmz("average", run.path, "--device", "cpu").mistake()
    assert "kept no averages" in message and "training.average=power" in hint
    message, hint = dmz("average", trained.path, "--length", 0.01, "--device", "cpu").mistake()
    assert "come no nearer than" in message and "0.03 to 0.25" in hint
    assert "0.28" in dmz("average", trained.path, "--length", 0.5).err


def test_a_snapshot_of_another_model_is_told(trained):
    file = min(trained.averages.iterdir())
    content = file.read_bytes()
    try:
        from dmzcli.system.files import save_tensors

        save_tensors(file, {"0.05/x": torch.zeros(2)})
        with pytest.raises(UserError, match="is of another model"):
            reconstructed(trained, 0.15)
        file.write_bytes(content[:-3])
        with pytest.raises(UserError, match="not a whole safetensors file"):
            reconstructed(trained, 0.15)
    finally:
        file.write_bytes(content)
