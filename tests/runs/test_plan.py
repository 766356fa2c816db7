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


def test_a_run_goes_on_with_its_own_settings(run, dmz):
    """Its steps, bits and precision are not the preset's; none has to be named again."""
    own = plan(None, None, {}, [], run.path).config
    assert own == run.config
    longer = plan("digits", None, {"training": {"steps": 14}}, [], run.path).config
    assert longer.training.steps == 14 and longer.experiment() == run.config.experiment()
    ended = dmz("train", "--run", run.path, "--max-steps", 14, "--device", "cpu", "--json")
    assert ended.code == 0 and ended.json["step"] == 14


def test_a_preset_that_is_named_is_compared_with_the_run(run):
    config = plan(None, "digits", {}, [], run.path).config
    assert config.experiment() != run.config.experiment()


def test_a_folder_without_a_run_is_taken():
    Path("mine").mkdir()
    assert directory((), Path("mine")) == Path("mine")


def test_the_first_difference_is_told(tiny):
    one, two = tiny().experiment(), tiny(model__bits=3).experiment()
    assert first_difference(one, one) is None
    assert first_difference(one, two) == "model.bits is 8 there, 3 here"


# What it takes -------------------------------------------------------------------------------------------------


def test_a_setting_that_does_not_go_with_a_preset_names_both():
    with pytest.raises(
        UserError, match=r"data\.size 12 .* \(in preset fashion-mnist with flags and --set\)$"
    ):
        plan("fashion-mnist", None, {}, ["data.size=12"])
    with pytest.raises(UserError, match=r"^model\.bits = 0: .* \(in flags and --set\)$"):
        plan("fashion-mnist", None, {"model": {"bits": 0}}, [])


def test_a_dataset_whose_path_is_no_text_is_refused_by_name():
    with pytest.raises(UserError, match="not in UTF-8"):
        plan("a\udcff", None, {}, [])
