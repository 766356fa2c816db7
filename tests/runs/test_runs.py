"""Run directories: which one a command takes, and what is wrong with one."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from dmzcli.codes.find import find_bits
from dmzcli.errors import UserError
from dmzcli.runs.find import find_run, find_run_of, same_dataset
from dmzcli.runs.run import load_into
from dmzcli.system.files import sha256


def copies(*names):
    """Copies of the run, the last one the newest."""
    for age, name in enumerate(names):
        shutil.copytree("runs/tiny", f"runs/{name}")
        for file in ("model.safetensors", "bits.h5"):
            os.utime(f"runs/{name}/{file}", (10 + age, 10 + age))


def test_the_newest_run_is_taken(workshop):
    copies("b", "c", "a")
    shutil.rmtree("runs/tiny")
    assert find_run().path == Path("runs/a")
    os.utime("runs/b/model.safetensors", (99, 99))
    assert find_run().path == Path("runs/b")
    assert find_run(Path("runs/c")).path == Path("runs/c")


def test_a_run_is_found_by_its_dataset(workshop):
    copies("other")
    config = json.loads(Path("runs/other/config.json").read_text())
    config["data"]["dataset"] = "/data/cats.tar.gz"
    Path("runs/other/config.json").write_text(json.dumps(config))
    assert find_run(dataset="digits").path == Path("runs/tiny")
    assert find_run(dataset="cats").path == find_run(dataset="/data/cats.tar.gz").path == Path("runs/other")
    with pytest.raises(UserError, match=r"^there is no run trained on 'cifar10' in runs/$") as error:
        find_run(dataset="cifar10")
    assert "dmz train cifar10" in error.value.hint


@pytest.mark.parametrize(
    ("trained", "wanted", "same"),
    [
        ("digits", "digits", True),
        ("digits", "digit", False),
        ("/data/cats.tar.gz", "/data/cats.tar.gz", True),
        ("/data/cats.tar.gz", "cats", True),
        ("/data/cats", "dogs", False),
    ],
)
def test_datasets_by_name_path_and_stem(trained, wanted, same):
    assert same_dataset(trained, wanted) is same


def test_a_relative_path_is_the_same_dataset():
    assert same_dataset(str(Path("cats").absolute()), "./cats")
    assert not same_dataset("/elsewhere/cats", str(Path("cats").absolute()))


def test_runs_without_weights_are_passed_over(workshop):
    copies("started")
    Path("runs/started/model.safetensors").unlink()
    assert find_run().path == Path("runs/tiny")
    started = find_run(Path("runs/started"))  # named, it is taken
    with pytest.raises(UserError, match=r"^runs/started has no model\.safetensors yet$"):
        started.load_model(torch.device("cpu"))
    with pytest.raises(UserError, match=r"^runs/started has no model\.safetensors yet$"):
        started.weights_hash  # noqa: B018


def test_no_run_anywhere():
    with pytest.raises(UserError, match=r"^there is no run in runs/$"):
        find_run()
    with pytest.raises(UserError, match=r"^nowhere is no run directory: it has no config\.json$"):
        find_run(Path("nowhere"))


def test_the_run_of_a_table(run):
    assert find_run_of(sha256(run.weights)).path == run.path
    assert find_run_of("0" * 64) is None


def test_the_newest_table_is_taken(workshop):
    copies("b", "a")
    os.utime("runs/tiny/bits.h5", (1, 1))
    assert find_bits() == Path("runs/a/bits.h5")
    shutil.copy("runs/a/bits.h5", "mine.h5")
    assert find_bits() == Path("mine.h5")
    Path("foreign.h5").write_bytes(b"no table")  # newer still, but it does not say that it is one
    assert find_bits() == Path("mine.h5")
    assert find_bits(run=Path("runs/b")) == Path("runs/b/bits.h5")
    assert find_bits(Path("any.h5"), Path("runs/b")) == Path("any.h5")


def test_no_table():
    with pytest.raises(UserError, match=r"^there is no bit table in runs/ or here$"):
        find_bits()
    with pytest.raises(UserError, match=r"^nowhere has no bits\.h5$"):
        find_bits(run=Path("nowhere"))


def test_a_loaded_model_is_ready(run, model):
    assert not model.training
    from safetensors.torch import load_file

    state = load_file(run.weights)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_weights_that_do_not_fit_are_named(run, tiny):
    from dmzcli.model.autoencoder import Autoencoder

    with pytest.raises(
        UserError, match=r"does not fit its config\.json: encoder\.linear\.bias is \(16,\), not \(10,\)"
    ):
        load_into(Autoencoder(tiny(model__bits=5)), run.weights)
    with pytest.raises(UserError, match=r"does not fit its config\.json: \S+ is missing"):
        load_into(Autoencoder(tiny(model__tokens="per-bit")), run.weights)


# Metrics ----------------------------------------------------------------------------------------------------


def test_a_line_cut_short_by_a_kill_is_left_out(run):
    whole = run.read_metrics()
    run.metrics.write_text(run.metrics.read_text()[:-5])
    assert run.read_metrics() == whole[:-1]


def test_no_metrics_are_no_rows(run):
    run.metrics.unlink()
    assert run.read_metrics() == []


@pytest.mark.parametrize("content", [b"{\n", b"[1]\n", b'{"loss": 1}\n', b"3\n", b"\xff\xfe\n"])
def test_damaged_metrics_are_named(run, content):
    run.metrics.write_bytes(content + run.metrics.read_bytes())
    with pytest.raises(UserError, match=r"^runs/tiny/metrics\.jsonl has a damaged line"):
        run.read_metrics()


def test_configuration_is_read_anew_after_it_is_saved(run, tiny):
    assert run.config.training.steps == 12
    run.save_config(tiny(training__steps=5))
    assert run.config.training.steps == 5
