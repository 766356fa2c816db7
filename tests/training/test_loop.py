"""Training: a function of (seed, step), so that stopping and going on leaves no trace."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.system.interrupts import Interrupted
from dmzcli.training import loop as training
from dmzcli.training import train
from dmzcli.training.trainer import Trainer

TIMING = {"images_per_second"}


class Killed(BaseException):
    """Stands for kill -9: nothing of the program runs after it."""


def rows(run):
    """The metrics without what the clock says."""
    return [{k: v for k, v in row.items() if k not in TIMING} for row in run.read_metrics()]


def result(run):
    return run.weights.read_bytes(), run.state.read_bytes(), rows(run)


def killed_after(monkeypatch, step):
    """Makes the trainer die right after this step, before anything is written about it."""
    inner = Trainer.train_step

    def train_step(self):
        terms = inner(self)
        if self.step == step:
            raise Killed
        return terms

    monkeypatch.setattr(Trainer, "train_step", train_step)


@pytest.fixture(scope="module")
def undisturbed(tiny, few, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("undisturbed") / "run")
    train(tiny(), few, run, "cpu")
    return run


@pytest.mark.parametrize("killed", [1, 4, 5, 7, 8, 11, 12])
def test_killed_after_any_step_ends_as_undisturbed(tiny, few, undisturbed, killed):
    run = Run(Path("run"))
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, killed)
        with pytest.raises(Killed):
            train(tiny(), few, run, "cpu")
    outcome = train(tiny(), few, run, "cpu")
    assert outcome.step == 12 and outcome.finished
    assert result(run) == result(undisturbed)


def test_logging_and_checkpoints_that_do_not_meet_leave_no_trace_either(tiny, few):
    """A kill between two rows: the row after it averages the steps from before the kill too."""
    config = tiny(training__log_every=5, training__checkpoint_every=4)
    whole, run = Run(Path("whole")), Run(Path("run"))
    train(config, few, whole, "cpu")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 9)
        with pytest.raises(Killed):
            train(config, few, run, "cpu")
    train(config, few, run, "cpu")
    assert result(run) == result(whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"model__latent": "none"},
        {"model__estimator": "straight-through", "model__tokens": "per-bit", "model__dropout": 0.2},
        {
            "diffusion__variance": "learned-range",
            "training__precision": "bf16",
            "diffusion__perturbation": 0.1,
            "data__flip": True,
        },
        {"model__estimator": "sign"},
        {"model__conditioning": "both", "model__time_code": (8,)},
        {"training__entropy": 0.3, "training__decorrelation": 0.1, "model__latent": "ordinal"},
        {"model__latent": "categorical", "model__estimator": "straight-through"},
        {"model__latent": "ordinal", "model__tokens": "per-bit"},
        {"model__estimator": "bernoulli-straight-through", "training__accumulate": 2},
        {"model__temperature_schedule": "exponential", "model__temperature_steps": 4},
        {"model__time_conditioning": "additive", "training__warmup": 9, "training__weight_decay": 0.1},
        {"training__gradient_clip": 0.0, "diffusion__schedule": "linear"},
        {"diffusion__prediction": "v", "diffusion__variance": "learned-range"},
        {"diffusion__timestep_sampling": "loss-second-moment", "diffusion__timesteps": 4},
        {"training__optimizer": "muon", "training__weight_decay": 0.1},
        {"training__average": "power"},
        {"diffusion__weighting": "learned-uncertainty"},
        {"diffusion__zero_terminal_snr": True, "diffusion__prediction": "v"},
    ],
    ids=lambda changes: "=".join(map(str, next(iter(changes.items())))).partition("__")[2],
)
def test_every_variant_resumes_as_undisturbed(tiny, few, changes):
    config = tiny(**changes, training__steps=6)
    whole, run = Run(Path("whole")), Run(Path("run"))
    train(config, few, whole, "cpu")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            train(config, few, run, "cpu")
    train(config, few, run, "cpu")
    assert result(run) == result(whole)


def test_timesteps_drawn_by_their_loss_are_part_of_the_checkpoint(tiny, few):
    """Four timesteps, 96 draws: each has ten losses after a step or two, so that the last steps draw unevenly."""
    from dmzcli.system.files import load_tensors

    config = tiny(
        diffusion__timestep_sampling="loss-second-moment", diffusion__timesteps=4, training__steps=6
    )
    run = Run(Path("run"))
    train(config, few, run, "cpu")
    tensors, _ = load_tensors(run.state)
    counts = tensors["timesteps.counts"]
    assert counts.sum() == 6 * 16 and (counts >= 10).all()
    assert tensors["timesteps.history"].shape == (4, 10) and (tensors["timesteps.history"] > 0).all()


def test_a_checkpoint_from_before_a_setting_existed_goes_on(tiny, few, undisturbed):
    """It and its config.json lack the settings that came later, which are then at their defaults."""
    from dmzcli.system.files import load_tensors, save_tensors

    run = Run(Path("run"))
    train(tiny(training__steps=4), few, run, "cpu")
    tensors, metadata = load_tensors(run.state)
    facts = json.loads(metadata["dmz-train-state"])
    config = json.loads((run.path / "config.json").read_text())
    for name in ("prediction", "timestep_sampling"):
        assert name not in facts["experiment"]["diffusion"]
        del config["diffusion"][name]
    save_tensors(run.state, tensors, {"dmz-train-state": json.dumps(facts)})
    (run.path / "config.json").write_text(json.dumps(config))
    assert run.config == tiny(training__steps=4)
    train(tiny(), few, run, "cpu")
    assert result(run)[:2] == result(undisturbed)[:2]
    with pytest.raises(UserError, match="is a checkpoint of other settings"):
        train(tiny(diffusion__prediction="v"), few, run, "cpu")


def test_a_kill_between_the_two_files_of_a_checkpoint_is_healed(tiny, few, undisturbed, monkeypatch):
    run = Run(Path("run"))
    inner = training.Trainer.save_average

    def save_average(self):
        if self.step == 12:
            raise Killed
        inner(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "save_average", save_average)
        with pytest.raises(Killed):
            train(tiny(), few, run, "cpu")
    assert run.weights.read_bytes() != undisturbed.weights.read_bytes()  # still those of step 8
    train(tiny(), few, run, "cpu")
    assert result(run) == result(undisturbed)


def test_the_board_is_one_file_with_all_rows_and_pictures(tiny, few):
    """However often a run is stopped; what is on it is what metrics.jsonl and the pictures' folder hold."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, config = Run(Path("run")), tiny(training__sample_every=4)
    for steps in (3, 9):
        with pytest.MonkeyPatch.context() as patch:
            killed_after(patch, steps)
            with pytest.raises(Killed):
                train(config, few, run, "cpu")
    (run.samples / "training" / "step-mine.png").write_text("mine")
    train(config, few, run, "cpu")
    assert len(list((run.path / "tensorboard").iterdir())) == 1
    board = EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [
        row["step"] for row in run.read_metrics()
    ]
    assert [event.step for event in board.Images("pictures")] == [4, 8, 12]


def test_more_steps_continue(tiny, few, undisturbed):
    """Six steps and then twelve make the weights of twelve; step 6 is only logged once more."""
    run = Run(Path("run"))
    short = train(tiny(training__steps=6), few, run, "cpu")
    assert (short.step, short.finished) == (6, True)
    assert json.loads((run.path / "config.json").read_text())["training"]["steps"] == 6
    longer = train(tiny(), few, run, "cpu")
    assert (longer.step, longer.finished) == (12, True)
    assert load_file(run.weights).keys() == load_file(undisturbed.weights).keys()
    assert result(run)[:2] == result(undisturbed)[:2]


def test_a_finished_run_is_left_as_it_is(tiny, few, undisturbed):
    shutil.copytree(undisturbed.path, "run")
    run = Run(Path("run"))
    before = result(run)
    outcome = train(tiny(), few, run, "cpu")
    assert outcome.finished and outcome.images_per_second is None
    assert outcome.loss == undisturbed.read_metrics()[-1]["loss"]
    assert result(run) == before


def test_another_seed_trains_something_else(tiny, few, undisturbed):
    run = Run(Path("run"))
    train(tiny(training__seed=1), few, run, "cpu")
    assert run.weights.read_bytes() != undisturbed.weights.read_bytes()


def test_training_leaves_global_randomness_as_it_was(tiny, few):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tiny(training__steps=2), few, Run(Path("run")), "cpu")
    assert torch.equal(torch.rand(3), expected)


def test_what_a_run_holds(undisturbed):
    files = {
        str(file.relative_to(undisturbed.path)) for file in undisturbed.path.rglob("*") if file.is_file()
    }
    boards = {name for name in files if name.startswith("tensorboard/events")}
    assert boards
    assert files - boards == {
        "config.json",
        "model.safetensors",
        "train-state/state.safetensors",
        "metrics.jsonl",
        "samples/training/step-0000012.png",
    }


def test_metrics_have_the_rows_that_were_asked_for(undisturbed):
    made = undisturbed.read_metrics()
    assert [row["step"] for row in made] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in made if "valid_loss" in row] == [4, 8, 12]
    for row in made:
        assert {"loss", "mse", "gradient_norm", "learning_rate", "images_per_second"} <= row.keys()


def test_the_board_has_groups_settings_and_pictures(undisturbed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(undisturbed.path / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert {"train/loss", "train/mse", "train/learning_rate", "valid/loss"} <= set(tags["scalars"])
    assert {tag.split("/")[0] for tag in tags["scalars"]} == {"train", "valid"}
    assert [event.step for event in board.Scalars("valid/loss")] == [4, 8, 12]
    assert tags["images"] == ["pictures"]
    (text,) = board.Tensors("settings/text_summary")
    told = text.tensor_proto.string_val[0].decode()
    assert '| data.dataset | "digits" |' in told and "| training.steps | 12 |" in told


def test_weights_file_tells_its_step_and_configuration(tiny, undisturbed):
    from dmzcli.system.files import load_tensors

    tensors, metadata = load_tensors(undisturbed.weights)
    facts = json.loads(metadata["dmz"])
    assert facts["step"] == 12
    assert facts["experiment"] == tiny().experiment()
    assert tensors.keys() == Autoencoder(tiny()).state_dict().keys()


def test_loss_falls_on_digits(tiny, digits):
    """A network that predicts no noise has a loss of E‖ε‖² = 1 a dimension; a hundred steps halve that."""
    run = Run(Path("run"))
    outcome = train(
        tiny(training__steps=100, training__batch_size=64, training__valid_every=100, training__log_every=10),
        digits,
        run,
        "cpu",
    )
    first = run.read_metrics()[0]["loss"]
    assert first > 0.6 and outcome.loss < 0.5 * first
    assert outcome.valid_loss < 0.6  # on images that it was not trained on


def test_rate_warms_up_linearly(tiny, few):
    run = Run(Path("run"))
    train(tiny(training__warmup=8, training__learning_rate=8e-3), few, run, "cpu")
    assert [row["learning_rate"] for row in run.read_metrics()] == pytest.approx(
        [2e-3, 4e-3, 6e-3, 8e-3, 8e-3, 8e-3]
    )


def test_the_rate_falls_to_zero_at_an_end_that_a_longer_run_moves(tiny, few):
    """Of 8 steps the last half: 4/4, 3/4, 2/4, 1/4; lengthened to 16, the fall begins at step 8 and lasts 8 steps."""
    run, changes = (
        Run(Path("run")),
        {"training__decay": 0.5, "training__learning_rate": 4e-3, "training__log_every": 1},
    )
    train(tiny(training__steps=8, **changes), few, run, "cpu")
    rates = [row["learning_rate"] for row in run.read_metrics()]
    assert rates == pytest.approx([4e-3] * 5 + [3e-3, 2e-3, 1e-3])
    train(tiny(training__steps=16, **changes), few, run, "cpu")
    assert [row["learning_rate"] for row in run.read_metrics()][8:] == pytest.approx(
        [4e-3 * k / 8 for k in range(8, 0, -1)]
    )


def test_any_run_may_still_choose_when_its_rate_falls(tiny, few):
    """Eight steps at a constant rate, and four more in which it falls: a decay is no other experiment."""
    run, changes = Run(Path("run")), {"training__learning_rate": 4e-3, "training__log_every": 1}
    train(tiny(training__steps=8, **changes), few, run, "cpu")
    train(tiny(training__steps=12, training__decay=4 / 12, **changes), few, run, "cpu")
    rates = [row["learning_rate"] for row in run.read_metrics()]
    assert rates == pytest.approx([4e-3] * 9 + [3e-3, 2e-3, 1e-3])


def test_no_hours_stop_after_one_step_with_a_checkpoint(tiny, few, undisturbed):
    run = Run(Path("run"))
    for step in (1, 2):
        outcome = train(tiny(), few, run, "cpu", max_hours=0.0)
        assert (outcome.step, outcome.finished) == (step, False)
    train(tiny(), few, run, "cpu")
    assert result(run)[:2] == result(undisturbed)[:2]


def test_hours_end_with_validation_and_checkpoint_before_they_are_over(tiny, few, monkeypatch):
    """Steps of .1 s, an end of 1.6 s: of 4 s from the process's beginning, a second before, some ten steps are left."""
    from dmzcli.training import loop

    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def costs(cls, name, seconds):
        inner = getattr(cls, name)

        def slow(self, *arguments):
            now[0] += seconds
            return inner(self, *arguments)

        monkeypatch.setattr(cls, name, slow)

    costs(Trainer, "train_step", 0.1)
    costs(Trainer, "valid_loss", 0.5)
    costs(Trainer, "pictures", 0.5)
    costs(Trainer, "save", 0.6)
    config = tiny(
        training__steps=1000, training__valid_every=4, training__sample_every=4, training__log_every=4
    )
    run = Run(Path("run"))
    outcome = train(config, few, run, "cpu", max_hours=8 / 3600, begun=99.0)
    assert not outcome.finished and outcome.step >= 8
    assert 99 + 8 - 1.9 < now[0] <= 99 + 8 - loop._EXIT  # an end after the next step would not have fitted
    assert run.read_metrics()[-1]["step"] == outcome.step and "valid_loss" in run.read_metrics()[-1]
    assert loop.checkpoint_facts(run)["step"] == outcome.step


# What goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [5, 8, 9])
def test_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tiny, few, monkeypatch, step):
    run = Run(Path("run"))
    kept = {}
    inner = Trainer.train_step

    def train_step(self):
        if self.step == 4 and not kept:
            kept["files"] = run.weights.read_bytes(), run.state.read_bytes()
        if self.step == 8:
            kept["files"] = run.weights.read_bytes(), run.state.read_bytes()
        inner(self)
        if self.step == step:
            self.sums["loss"] = self.sums["loss"] * float("nan")

    monkeypatch.setattr(Trainer, "train_step", train_step)
    saved, seen = (8, 10) if step == 9 else (4, step + step % 2)
    with pytest.raises(UserError) as error:
        train(tiny(), few, run, "cpu")
    assert error.value.message == (
        f"loss is no longer finite at step {seen}; the checkpoint of step {saved} is intact"
    )
    assert "learning_rate" in error.value.hint
    assert kept["files"] == (run.weights.read_bytes(), run.state.read_bytes())
    assert all(np.isfinite(row["loss"]) for row in run.read_metrics())


def test_a_rate_that_explodes_is_noticed(tiny, few):
    config = tiny(training__learning_rate=1e30, training__gradient_clip=0.0)
    with pytest.raises(UserError, match=r"^(loss|mse|gradient norm) is no longer finite at step 2$"):
        train(config, few, Run(Path("run")), "cpu")
    assert not Path("run/model.safetensors").exists()


# Interruptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_says_so(tiny, few, undisturbed, monkeypatch, number):
    run, inner = Run(Path("run")), Trainer.train_step

    def train_step(self):
        terms = inner(self)
        if self.step == 7:
            signal.raise_signal(number)
        return terms

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", train_step)
        with pytest.raises(Interrupted, match="the checkpoint of step 7 is saved") as caught:
            train(tiny(), few, run, "cpu")
    assert caught.value.number == number
    assert signal.getsignal(number) is before
    train(tiny(), few, run, "cpu")
    assert result(run) == result(undisturbed)


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signalled_process_leaves_with_its_code_and_a_checkpoint(spawn, tiny_settings, number, code):
    process = spawn("train", *tiny_settings, "--max-steps", 100000, "--run", "run", "--device", "cpu")
    wait_for(Path("run/model.safetensors").exists, process)
    process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    facts = json.loads(safetensors_metadata(Path("run/train-state/state.safetensors"))["dmz-train-state"])
    assert f"the checkpoint of step {facts['step']} is saved" in err


def safetensors_metadata(path):
    from dmzcli.system.files import load_tensors

    return load_tensors(path)[1]


def train_with_kills(spawn, arguments, kills, seconds, chance):
    """Starts training until it ends; the first ``kills`` starts are killed -9 at a random moment."""
    for left in range(kills, -1, -1):
        process = spawn("train", *arguments, "--run", "run", "--device", "cpu")
        if left:
            wait_for(Path("run/config.json").exists, process)
            time.sleep(chance.uniform(0, seconds))
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        else:
            _out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err


def compare_with_kills(spawn, dmz, settings, kills, steps, seconds, seed):
    arguments = (*settings, "--max-steps", str(steps), "--set", "training.checkpoint_every=5")
    arguments += ("--set", "training.log_every=5", "--set", "training.valid_every=50")
    assert dmz("train", *arguments, "--run", "whole", "--device", "cpu", "--quiet").code == 0
    train_with_kills(spawn, arguments, kills, seconds, random.Random(seed))
    whole, run = Run(Path("whole")), Run(Path("run"))
    assert run.weights.read_bytes() == whole.weights.read_bytes()
    assert rows(run) == rows(whole)
    assert not list(run.path.rglob(".*.tmp"))


def test_two_kills_leave_no_trace(spawn, dmz, tiny_settings):
    compare_with_kills(spawn, dmz, tiny_settings, kills=2, steps=200, seconds=2.0, seed=0)


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(spawn, dmz, tiny_settings):
    compare_with_kills(spawn, dmz, tiny_settings, kills=20, steps=3000, seconds=8.0, seed=1)
