"""Before a run: what wins over what, where it goes, and what it will take."""

from pathlib import Path

import pytest

from dmzcli.config import presets
from dmzcli.errors import UserError
from dmzcli.runs.plan import first_difference, plan

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
