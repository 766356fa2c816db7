"""The command line: the path as written, one JSON object, quiet, and what wrong input gets."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dmzcli.codes.table import BitTable
from dmzcli.runs import Run

FAST = ("--device", "cpu")


def make(dmz, *arguments):
    """Runs a command that must succeed."""
    ended = dmz(*arguments)
    assert ended.code == 0, ended.err
    return ended


# The path --------------------------------------------------------------------------------------------------


def test_the_four_lines_work_as_written(dmz, tiny_settings):
    """In a fresh folder, each with nothing but its own words (and a shorter, smaller training)."""
    make(dmz, "train", "--max-steps", "20", *tiny_settings)
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("digits")
    assert json.loads((folder / "config.json").read_text())["training"]["steps"] == 20
    make(dmz, "encode", "digits", "--out", "bits.h5")
    assert not (folder / "bits.h5").exists()
    fitted = make(dmz, "fit-prior", "--kind", "bernoulli", "--json").json
    assert fitted["bits"] == "bits.h5"  # the only one in sight
    assert Path(fitted["prior"]) == folder / "priors" / "bernoulli"  # of the run that made the table
    probed = make(dmz, "probe", "--json").json
    assert probed["bits"] == "bits.h5"
    assert [p["name"] for p in probed["probes"]][:3] == ["bits", "untrained bits", "pixels"]
    sampled = make(dmz, "sample", "-n", "4", "--steps", "5", "--json").json
    assert Path(sampled["samples"]).parent == folder / "samples"
    assert sampled["prior"] == "bernoulli"
    assert sorted(os.listdir()) == ["bits.h5", "runs"]  # nothing else was left about


def test_each_line_takes_the_newest(dmz, workshop, tiny_settings):
    os.utime("runs/tiny/model.safetensors", (1, 1))
    os.utime("runs/tiny/bits.h5", (1, 1))
    make(dmz, "train", *tiny_settings, "--max-steps", "2", "--seed", "3", "--run", "runs/new")
    assert make(dmz, "encode", "--json").json["run"] == "runs/new"
    assert make(dmz, "fit-prior", "--kind", "uniform", "--json").json["bits"] == "runs/new/bits.h5"
    assert make(dmz, "probe", "--no-baselines", "--json").json["bits"] == "runs/new/bits.h5"
    assert make(dmz, "sample", "-n", "1", "--steps", "2", "--json").json["run"] == "runs/new"
    os.utime("runs/tiny/model.safetensors")
    assert make(dmz, "sample", "-n", "1", "--steps", "2", "--json").json["run"] == "runs/tiny"


def test_encode_takes_the_newest_run_of_the_dataset(dmz, workshop):
    shutil.copytree("runs/tiny", "runs/other")
    config = json.loads(Path("runs/other/config.json").read_text())
    config["data"]["dataset"] = "cifar10"
    Path("runs/other/config.json").write_text(json.dumps(config))
    os.utime("runs/other/model.safetensors")
    assert make(dmz, "encode", "digits", "--out", "b.h5", "--json").json["run"] == "runs/tiny"


def test_train_says_which_run_it_writes_and_the_same_settings_resume(dmz, tiny_settings):
    first = make(dmz, "train", *tiny_settings, "--max-steps", "2", "--json").json
    assert (first["step"], first["finished"]) == (2, True)
    again = make(dmz, "train", *tiny_settings, "--max-steps", "2", "--json")
    assert again.json["run"] == first["run"] and "resuming" in again.err
    other = make(dmz, "train", *tiny_settings, "--set", "model.bits=4", "--max-steps", "2", "--json").json
    assert other["run"] != first["run"]


def test_larger_max_steps_continue(dmz, tiny_settings):
    make(dmz, "train", *tiny_settings, "--max-steps", "4", "--run", "r")
    longer = make(dmz, "train", *tiny_settings, "--max-steps", "6", "--run", "r", "--json").json
    assert longer["step"] == 6
    make(dmz, "train", *tiny_settings, "--max-steps", "6", "--run", "whole")
    assert Run(Path("r")).weights_hash == Run(Path("whole")).weights_hash


def test_dry_run_writes_nothing(dmz, tiny_settings, monkeypatch):
    monkeypatch.setattr("dmzcli.training.cost.PATIENCE", 200.0)  # however slow the machine is
    facts = make(dmz, "train", *tiny_settings, "--dry-run", "--json").json
    assert facts["config"]["model"]["channels"] == 8 and facts["parameters"] > 0
    assert facts["measured"] and facts["seconds_per_1000_steps"] > 0 and 1 <= facts["steps"] <= 5
    assert (
        facts["memory_bytes"]["optimiser"] >= 2 * facts["memory_bytes"]["weights"] == 8 * facts["parameters"]
    )
    assert os.listdir() == []


def test_dry_run_tells_what_it_could_not_measure(dmz, tiny_settings, monkeypatch):
    monkeypatch.setattr("dmzcli.training.cost.room", lambda device: 1000)
    text = make(dmz, "train", *tiny_settings, "--dry-run").out
    assert "parameters:" in text and "FLOPs per image" in text
    assert "an estimate by the tensors' shapes" in text
    assert "time: not measured: a step takes about 0.0 GiB, and 0.0 are free on cpu" in text


def test_pictures_by_path_go_the_whole_way(dmz, tiny_settings, digits):
    """A folder named by a relative path is the same dataset in every command."""
    from PIL import Image

    for row in [*digits.rows("train")[:40], *digits.rows("valid")[:20]]:
        file = Path("pictures") / str(digits.labels[row]) / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[row, :, :, 0]).save(file)
    make(dmz, "train", "pictures", *tiny_settings, "--max-steps", "2")
    for name in ("pictures", "./pictures", Path("pictures").absolute()):
        assert make(dmz, "encode", name, "--json").json["rows"] == 60
    Path("below").mkdir()
    runs = Path("runs").absolute()
    os.chdir("below")
    (run,) = runs.iterdir()
    assert make(dmz, "encode", "--run", run, "--json").json["rows"] == 60


# Talk and results --------------------------------------------------------------------------------------------

READERS = {
    "train": ("train", "--run", "runs/tiny"),
    "train settings": ("train", "--settings"),
    "encode": ("encode", "--run", "runs/tiny"),
    "fit-prior": ("fit-prior", "--kind", "bernoulli"),
    "fit-prior kinds": ("fit-prior", "--kinds"),
    "sample": ("sample", "bernoulli", "-n", "2", "--steps", "2"),
    "probe": ("probe", "--no-baselines"),
    "info run": ("info", "runs/tiny"),
    "info table": ("info", "runs/tiny/bits.h5"),
    "info prior": ("info", "runs/tiny/priors/bernoulli"),
    "info weights": ("info", "runs/tiny/model.safetensors"),
    "data list": ("data", "list"),
}


@pytest.mark.parametrize("name", READERS)
def test_json_is_one_object_and_quiet_is_quiet(dmz, workshop, tiny_settings, name):
    arguments = READERS[name] + ((*tiny_settings, "--max-steps", "12") if name == "train" else ())
    quiet = dmz(*arguments, "--json", "--quiet")
    assert quiet.code == 0, quiet.err
    assert quiet.err == ""
    assert quiet.json
    text = dmz(*arguments, "--quiet")
    assert (text.code, text.err) == (0, "") and text.out.strip()
    assert not text.out.startswith("{")


def test_a_whole_process_is_as_quiet(dmz_process, workshop):
    """Libraries that write to the file descriptors themselves included."""
    ended = dmz_process("encode", "--out", "b.h5", "--json", "--quiet", *FAST)
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["rows"] == 1797
    ended = dmz_process("sample", "-n", "2", "--steps", "2", "--json", "--quiet", *FAST)
    assert (ended.code, ended.err) == (0, "") and ended.json["count"] == 2


def test_training_process_is_as_quiet(dmz_process, tiny_settings):
    ended = dmz_process("train", *tiny_settings, "--max-steps", "2", "--json", "--quiet", *FAST)
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["finished"] is True


def test_a_mistake_in_json_is_one_object_too(dmz):
    ended = dmz("encode", "--json")
    error, hint = ended.mistake()
    assert ended.json == {"error": error.removeprefix("error: "), "hint": hint.removeprefix("hint: ")}


def test_version(dmz):
    from dmzcli import __version__

    assert dmz("--version").out == f"dmz {__version__}\n"


def test_a_reader_that_leaves_early_is_no_defect(spawn):
    process = spawn("train", "--settings")
    process.stdout.close()
    assert process.wait(60) in (0, 141)
    err = process.stderr.read()
    assert "Traceback" not in err and "Exception ignored" not in err


def test_a_defect_is_told_from_a_mistake(dmz, workshop, monkeypatch):
    import dmzcli.reports.describe

    def broken(path):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(dmzcli.reports.describe, "describe", broken)
    ended = dmz("info", "runs/tiny")
    assert ended.code == 1
    assert "Traceback" in ended.err and "this is a defect of dmz" in ended.err


def test_info_on_each_kind_of_thing(dmz, workshop):
    made = make(dmz, "sample", "bernoulli", "-n", "3", "--steps", "2", "--json").json
    facts = {
        name: make(dmz, "info", name, "--json").json
        for name in (
            "runs/tiny",
            "runs/tiny/bits.h5",
            "runs/tiny/priors/bernoulli",
            "runs/tiny/model.safetensors",
            made["samples"],
        )
    }
    assert [fact["what"] for fact in facts.values()] == ["run", "bit table", "prior", "weights", "samples"]
    run, table, prior, weights, samples = facts.values()
    assert run["step"] == weights["step"] == 12
    assert run["priors"] == ["bernoulli", "empirical", "uniform"]
    assert run["samples"] == [Path(made["samples"]).name]
    assert run["bits"] == table["dim"] == prior["dim"] == 8
    assert table["rows"] == 1797 and table["splits"] == {"train": 1197, "valid": 200, "test": 400}
    assert run["model"] == table["model"] == prior["metadata"]["model"] == samples["model"]
    assert samples["finished"] and samples["count"] == 3


# Wrong input ---------------------------------------------------------------------------------------------------


def truncate(path, keep=0.6):
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * keep)])


def spoil(path, content):
    Path(path).write_bytes(content)


def other_model(path):
    """The same table, from other weights."""
    dataclasses.replace(BitTable.read(path), model="0" * 64).write(path)


def edit_json(path, **changes):
    tree = json.loads(Path(path).read_text())
    tree.update(changes)
    Path(path).write_text(json.dumps(tree))


NAMES = [
    (("trian",), "no such command 'trian'", "did you mean 'train'?"),
    (("data", "lisst"), "no such command 'lisst'", "did you mean 'list'?"),
    (("train", "--max-step", "3"), "no such option: --max-step", "did you mean '--max-steps'?"),
    (("encode", "--sed", "3"), "no such option: --sed", "did you mean '--seed'?"),
    (("train", "digitz"), "unknown dataset 'digitz'", "did you mean 'digits'?"),
    (("train", "--preset", "cifar10-smal"), "unknown preset 'cifar10-smal'", "did you mean 'cifar10-small'?"),
    (
        ("train", "--set", "model.chanels=8"),
        "unknown setting 'model.chanels'",
        "did you mean 'model.channels'?",
    ),
    (("train", "--set", "model.channels"), "--set model.channels has no '='", "--set model.channels=64"),
    (("train", "--latent", "bernouli"), "model.latent = 'bernouli'", "did you mean 'bernoulli'?"),
    (("encode", "--mode", "modee"), "unknown --mode 'modee'", "did you mean 'mode'?"),
    (("fit-prior", "--kind", "bernouli"), "unknown kind 'bernouli'", "did you mean 'bernoulli'?"),
    (("fit-prior", "--given", "label"), "unknown --given 'label'", "say labels"),
    (("fit-prior", "--kind", "bernoulli", "--set", "smothing=1"), "smothing", "did you mean 'smoothing'?"),
    (("fit-prior", "--kind", "bernoulli", "--set", "smoothing"), "--set smoothing has no '='", "="),
    (("fit-prior", "--set", "a=1"), "none of the kinds compared has the option 'a'", "minutes"),
    (("sample", "bernouli"), "there is no prior 'bernouli'", "did you mean 'bernoulli'?"),
    (
        ("sample", "chow-liu"),
        "runs/tiny has no prior 'chow-liu'",
        "dmz fit-prior --run runs/tiny --kind chow-liu",
    ),
    (("sample", "--sampler", "dddim"), "unknown sampler 'dddim'", "did you mean 'ddim'?"),
    (("sample", "--threshold", "dynamik"), "unknown threshold 'dynamik'", "did you mean 'dynamic'?"),
    (("sample", "--spacing", "unifrm"), "unknown spacing 'unifrm'", "did you mean 'uniform'?"),
]


@pytest.mark.parametrize(("arguments", "error", "hint"), NAMES, ids=lambda value: "-".join(value)[:40])
def test_misspelt_names(dmz, workshop, arguments, error, hint):
    if arguments[0] == "train":
        arguments = (*arguments, "--dry-run")  # so that a name that is not refused fails soon
    told = dmz(*arguments).mistake()
    assert error in told[0] and hint in told[1], told


VALUES = [
    (("sample", "--steps", "51"), "--steps 51 does not fit a model of 50 timesteps"),
    (("sample", "--steps", "37", "--spacing", "ddim"), "no whole stride takes 37 of 50 timesteps"),
    (("sample", "--eta", "-1", "--sampler", "ddim"), "--eta -1.0 is not a number from 0 up"),
    (("sample", "--eta", "nan", "--sampler", "ddim"), "--eta nan"),
    (("compare-priors", "--run", "runs/tiny", "--margin", "inf"), "'--margin': inf is no finite number"),
    (("cache", "--days", "inf"), "'--days': inf is no finite number"),
    (("report", "--steps", "10000000000"), "invalid value for '--steps'"),
    (("sample", "--eta", "0.5"), "--eta 0.5 means nothing to the sampler 'ancestral'"),
    (("sample", "--percentile", "99"), "--percentile 99.0 is not a number in (0, 1]"),
    (("sample", "--temperature", "0"), "temperature"),
    (("sample", "--temperature", "nan"), "temperature"),
    (("sample", "-n", "0"), "invalid value for '--count' / '-n'"),
    (("sample", "-n", "many"), "invalid value for '--count' / '-n'"),
    (("sample", "--seed", "-1"), "invalid value for '--seed'"),
    (("sample", "--device", "nonsense"), "no device 'nonsense' here"),
    (("sample", "--device", "meta"), "no device 'meta' here"),
    (("encode", "--device", "nonsense"), "no device 'nonsense' here"),
    (("encode", "--batch-size", "0"), "invalid value for '--batch-size'"),
    (("probe", "--device", "nonsense"), "no device 'nonsense' here"),
    (("train", "--device", "nonsense"), "no device 'nonsense' here"),
    (("train", "--max-steps", "0"), "invalid value for '--max-steps'"),
    (("train", "--max-hours", "-1"), "invalid value for '--max-hours'"),
    (("train", "--seed", "3000000000"), "'--seed': expected at most 2,147,483,647"),
    (("train", "--set", "model.channels=many"), "model.channels = 'many'"),
    (("train", "--set", "model.channels=9", "--set", "model.heads=1"), "model.channels = 9"),
    (("train", "--set", "model.channels=30"), "model.heads 4 does not divide the 30 channels of a level"),
    (("train", "--set", "model.multipliers=1,0"), "model.multipliers"),
    (("train", "--set", "model.multipliers=1,-2"), "model.multipliers"),
    (("train", "--set", "model.multipliers=[]"), "model.multipliers"),
    (("train", "--set", "model.encoder_channels=8,0"), "model.encoder_channels"),
    (
        ("train", "--set", "model.attention=3"),
        "model.attention [3] is not among the U-Net's resolutions [8, 4]",
    ),
    (("train", "--set", "model.multipliers=1,1,1,1,1"), "data.size 8 cannot be halved 4 times"),
    (("train", "--set", "training.learning_rate=0"), "training.learning_rate = 0"),
    (("train", "--set", "training.learning_rate=NaN"), "training.learning_rate"),
    (("train", "--set", "training.learning_rate=Infinity"), "training.learning_rate"),
    (("train", "--set", "model.temperature=Infinity"), "model.temperature"),
    (("train", "--set", "diffusion.perturbation=NaN"), "diffusion.perturbation"),
    (("train", "--set", "data.size=9", "--set", "data.fit=pad"), "data.size 9 cannot be halved 1 times"),
    (("train", "--set", "data.size=12", "--set", "model.attention=6"), "8 × 8"),
    (("train", "--data-dir", "nowhere", "fashion-mnist"), "nowhere does not exist"),
    (("train", "nowhere/pictures"), "nowhere/pictures does not exist"),
    (("train", "--run", "file"), "file is a file, not a run directory"),
    (("train", "extra", "words"), "unexpected extra argument"),
    (("info",), "missing argument 'path'"),
    (("info", "nowhere"), "nowhere does not exist"),
    (("info", "file"), "file is no file of dmz"),
    (("info", "runs"), "runs is no run, prior or folder of samples"),
    (("encode", "--run", "nowhere"), "nowhere is no run directory"),
    (("encode", "cifar10"), "there is no run trained on 'cifar10' in runs/"),
    (("sample", "--run", "nowhere"), "nowhere is no run directory"),
    (("fit-prior", "--run", "nowhere"), "nowhere"),
    (("fit-prior", "nowhere.h5"), "nowhere.h5 does not exist"),
    (("fit-prior", "runs"), "runs"),
    (("probe", "nowhere.h5"), "nowhere.h5 does not exist"),
    (("probe", "--run", "nowhere"), "nowhere"),
    (("probe", "file"), "file is no whole bit table"),
    (("sample", "--out", "file"), "--out 'file' is there already, and no folder"),
    (("sample", "--out", "file/below"), "file/below"),
    (("encode", "--out", "file/bits.h5"), "file"),
    (("fit-prior", "--kind", "bernoulli", "--out", "file"), "file"),
    (("train", "--run", "file/run"), "file"),
    (("demo", "--run", "file"), "file"),
]


@pytest.mark.parametrize(("arguments", "error"), VALUES, ids=lambda v: "-".join(v)[:48] if v else "")
def test_wrong_values(dmz, workshop, arguments, error):
    Path("file").write_text("someone's notes")
    if arguments[0] == "train" and "--max-steps" not in arguments:
        arguments = (*arguments, "--max-steps", "1")  # so that a value that is not refused fails soon
    told, _ = dmz(*arguments).mistake()
    assert error in told, told
    assert Path("file").read_text() == "someone's notes"


def test_no_command_shows_the_commands(dmz):
    for arguments, name in (((), "fit-prior"), (("data",), "list")):
        ended = dmz(*arguments)
        assert ended.code == 2 and ended.out == ""
        lines = ended.err.splitlines()
        assert any(line.split()[:1] == [name] for line in lines)  # a line each
        assert not any(line.startswith(("error:", "Traceback")) for line in lines)


@pytest.mark.parametrize("command", ["encode", "sample", "fit-prior", "probe"])
def test_nothing_there_yet(dmz, command):
    error, hint = dmz(command).mistake()
    assert "there is no" in error and "dmz " in hint
    assert os.listdir() == []


JUNK = {
    "empty": b"",
    "text": b"hello\n",
    "bytes": bytes(range(256)) * 4,
    "list": b"[1, 2]",
    "object": b'{"a": 1}',
}
USES = {
    "config.json": [("encode",), ("sample",), ("info", "runs/tiny"), ("train", "--run", "runs/tiny")],
    "model.safetensors": [
        ("encode",),
        ("sample",),
        ("info", "runs/tiny/model.safetensors"),
        ("info", "runs/tiny"),
    ],
    "bits.h5": [
        ("fit-prior", "--run", "runs/tiny"),
        ("probe", "--run", "runs/tiny"),
        ("info", "runs/tiny/bits.h5"),
    ],
    "priors/bernoulli/prior.json": [("sample", "bernoulli"), ("info", "runs/tiny/priors/bernoulli")],
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize(("name", "use"), [(name, use) for name, uses in USES.items() for use in uses])
def test_foreign_files(dmz, workshop, name, use, junk):
    file = Path("runs/tiny") / name
    spoil(file, JUNK[junk])
    error, _ = dmz(*use).mistake()
    assert name in error, error
    assert file.read_bytes() == JUNK[junk]  # theirs to repair


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
@pytest.mark.parametrize(("name", "use"), [(name, uses[0]) for name, uses in USES.items()])
def test_truncated_files(dmz, workshop, name, use, keep):
    file = Path("runs/tiny") / name
    truncate(file, keep)
    error, _ = dmz(*use).mistake()
    assert name in error, error


@pytest.mark.parametrize("content", [b"{}", b'{"data": {"dataset": "digits"}}', b'{"model": 5}', b"null"])
@pytest.mark.parametrize(
    "use", [("encode",), ("sample",), ("info", "runs/tiny"), ("probe",)], ids=lambda u: u[0]
)
def test_config_that_says_too_little(dmz, workshop, content, use):
    spoil("runs/tiny/config.json", content)
    error, _ = dmz(*use).mistake()
    assert "config.json" in error, error


def test_truncated_tensors_of_a_prior(dmz, workshop):
    (file,) = Path("runs/tiny/priors/bernoulli").glob("*.safetensors")
    truncate(file)
    assert file.name in dmz("sample", "bernoulli").mistake()[0]


def test_missing_weights_are_no_run_of_ours(dmz, workshop):
    Path("runs/tiny/model.safetensors").unlink()
    for command in ("encode", "sample"):
        assert "there is no run" in dmz(command).mistake()[0]
        error, hint = dmz(command, "--run", "runs/tiny").mistake()
        assert "runs/tiny has no model.safetensors yet" in error and "dmz train --run runs/tiny" in hint


def test_weights_of_another_model(dmz, workshop):
    config = json.loads(Path("runs/tiny/config.json").read_text())
    config["model"]["bits"] = 9
    Path("runs/tiny/config.json").write_text(json.dumps(config))
    for command in ("encode", "sample"):
        error, _ = dmz(command).mistake()
        assert "model.safetensors does not fit its config.json" in error


def test_a_table_from_another_model(dmz, workshop):
    other_model("runs/tiny/bits.h5")
    for command in ("probe", "fit-prior"):
        error, hint = dmz(command, "--run", "runs/tiny").mistake()
        assert "runs/tiny/bits.h5 holds the bits of another model" in error
        assert hint == "hint: encode anew with dmz encode --run runs/tiny"
    make(dmz, "fit-prior", "runs/tiny/bits.h5", "--kind", "bernoulli", "--out", "prior")
    error, hint = dmz("sample", "prior").mistake()
    assert "was fitted to the bits of another model" in error and "dmz encode" in hint


def test_a_prior_of_another_dimension(dmz, workshop):
    import priors

    prior = priors.create("bernoulli", dim=5)
    prior.fit(np.eye(5, dtype=np.uint8))
    prior.save("prior")
    error, hint = dmz("sample", "prior").mistake()
    assert "prior is a prior of 5 bits, the model of runs/tiny has 8" in error
    assert "dmz fit-prior --run runs/tiny" in hint


def test_changed_settings_in_the_run_of_another_experiment(dmz, workshop, tiny_settings):
    before = Path("runs/tiny/config.json").read_bytes()
    for change, told in (
        (("--seed", "1"), "training.seed is 0 there, 1 here"),
        (("--set", "model.bits=4"), "model.bits is 8 there, 4 here"),
        (("--set", "training.learning_rate=1e-3"), "training.learning_rate is 0.002 there, 0.001 here"),
    ):
        error, _ = dmz("train", "--run", "runs/tiny", *tiny_settings, *change).mistake()
        assert f"runs/tiny holds another experiment: {told}" in error
    assert Path("runs/tiny/config.json").read_bytes() == before


def test_images_of_another_size_than_the_model(dmz, workshop):
    from PIL import Image

    Path("pictures").mkdir()
    for i in range(30):
        Image.new("L", (16, 16), 8 * i).save(f"pictures/{i}.png")
    error, _ = dmz("encode", "pictures", "--run", "runs/tiny").mistake()
    assert "16 × 16" in error or "16x16" in error


def test_a_model_without_a_latent(dmz, tiny_settings):
    make(dmz, "train", *tiny_settings, "--max-steps", "2", "--set", "model.latent=none")
    error, hint = dmz("encode").mistake()
    assert "latent 'none' has no bits" in error and "--latent bernoulli" in hint
    assert "takes no prior" in dmz("sample", "bernoulli").mistake()[0]
    made = make(dmz, "sample", "-n", "2", "--steps", "2", "--json").json
    assert made["prior"] == "none"


def test_a_run_in_the_way_does_not_hide_the_others(dmz, workshop):
    """A damaged run beside a good one is named, or passed over: never a defect."""
    shutil.copytree("runs/tiny", "runs/bad")
    spoil("runs/bad/config.json", b"{")
    os.utime("runs/tiny/model.safetensors")
    for command in (("sample", "-n", "1", "--steps", "1"), ("encode", "digits")):
        ended = dmz(*command)
        assert ended.code in (0, 2) and "Traceback" not in ended.err


def leaves(group, prefix=""):
    """Every command that there is, with its name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_command_that_reads_images_of_a_dataset_has_the_set_of_its_hints():
    import typer.main

    from dmzcli.commands.app import app

    reading = {}
    for name, command in leaves(typer.main.get_command(app)):
        options = {option for parameter in command.params for option in parameter.opts}
        if "--data-dir" in options and name != "data list":  # which lists what there is, and reads none
            reading[name] = "--set" in options
    assert {"encode", "probe", "likelihood", "sweep-steps", "compare-priors", "data show"} <= reading.keys()
    assert all(reading.values()), reading


def test_the_runs_images_are_read_as_set_says(dmz, run):
    error, _ = dmz("likelihood", "--run", run.path, "--set", "data.size=9", "-n", "2").mistake()
    assert "9" in error
    error, _ = dmz("probe", "--run", run.path, "--set", "data.sides=A").mistake()
    assert "data.sides" in error
    error, _ = dmz("compare-priors", run.bits, "--set", "data.size=8").mistake()
    assert error == "error: --set data.size=8 means nothing without --run"
