"""A run's tables: its own and those written elsewhere, and which of them other weights made."""

import shutil
from pathlib import Path

import pytest

from dmzcli.codes.find import find_bits, owner_of, tables_of
from dmzcli.codes.fit import fit
from dmzcli.codes.table import BitTable
from dmzcli.data import load
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.training import train


def train_on(run, steps=2):
    """More steps of the run: other weights."""
    config = run.config
    training = config.training.model_copy(update={"steps": config.training.steps + steps})
    train(config.model_copy(update={"training": training}), load("digits"), Run(run.path), "cpu")
    return Run(run.path)


def test_a_table_elsewhere_is_known_to_its_run(dmz, run):
    Path("far").mkdir()
    options = ("encode", "--run", run.path, "--device", "cpu", "--out")
    assert dmz(*options, "far/mine.h5").code == 0 and dmz(*options, "far/mine.h5").code == 0
    assert tables_of(run) == [run.bits, Path("far/mine.h5").resolve()]
    assert find_bits() == Path("far/mine.h5").resolve()  # the newest in sight
    run.bits.unlink()
    assert find_bits(run=run.path) == Path("far/mine.h5").resolve()
    assert dmz("fit-prior", "--run", run.path, "--kind", "uniform").code == 0
    assert str(Path("far/mine.h5").resolve()) in dmz("info", run.path, "--json").json["other_tables"]
    Path("far/mine.h5").unlink()
    with pytest.raises(UserError, match=r"has no bits\.h5$"):
        find_bits(run=run.path)


@pytest.mark.parametrize("where", ["own", "elsewhere"])
def test_stale_tables_are_told_by_all_that_read_them(dmz, run, where):
    path = run.bits
    if where == "elsewhere":
        Path("far").mkdir()
        path = Path("far/mine.h5")
        assert dmz("encode", "--run", run.path, "--device", "cpu", "--out", path).code == 0
    table = BitTable.read(path)
    assert not owner_of(path, table.model).stale
    longer = train_on(run)
    owner = owner_of(path, table.model)
    assert owner.stale and owner.run.path == longer.path
    told = f"{path} holds the bits of other weights than runs/tiny/model.safetensors has now; "
    told += "dmz encode --run runs/tiny" + (" makes" if where == "own" else f" --out {path} makes")
    made = [
        dmz("probe", path, "--json", "--device", "cpu"),
        dmz("fit-prior", path, "--kind", "bernoulli", "--json"),
        dmz("compare-priors", path, "--kind", "uniform"),
    ]
    assert [ended.code for ended in made] == [0] * 3, made
    assert all(told in ended.err for ended in made), made
    assert [probe["name"] for probe in made[0].json["probes"]][:3] == ["bits", "untrained bits", "pixels"]
    assert Path(made[1].json["prior"]) == run.priors / "bernoulli"
    facts = dmz("info", path, "--json").json
    assert facts["stale"] and facts["run"] == "runs/tiny"
    error, hint = dmz("fit-prior", path, "--run", "runs/tiny").mistake()
    assert "another model" in error and "dmz encode --run runs/tiny" in hint


def test_the_remark_names_the_dataset_where_it_is_another(run):
    table = BitTable.read(run.bits)
    owner = owner_of(run.bits, "0" * 64)
    assert "dmz encode --run runs/tiny makes" in owner.remark(run.bits, table.dataset)
    assert "dmz encode faces --run runs/tiny --out far.h5 makes" in owner.remark(
        Path("far.h5"), "faces/8x8x1/0123"
    )


def test_samples_given_a_stale_table_say_so(dmz, run):
    shutil.copytree(run.path, "runs/other")
    other = train_on(Run(Path("runs/other")))
    assert dmz("encode", "--run", "runs/other", "--device", "cpu").code == 0
    options = ("--run", "runs/tiny", "--kind", "bernoulli", "--given", other.bits)
    assert dmz("fit-prior", *options).code == 0
    sample = (
        "sample",
        "bernoulli-given-other",
        "--run",
        "runs/tiny",
        "-n",
        "2",
        "--steps",
        "2",
        "--device",
        "cpu",
    )
    fresh = dmz(*sample)
    assert fresh.code == 0 and "other weights" not in fresh.err
    train_on(Run(Path("runs/other")))
    assert "runs/other/bits.h5 holds the bits of other weights" in dmz(*sample).err


def test_a_prior_of_nobodys_table_needs_a_place(dmz, run):
    shutil.copy(run.bits, "mine.h5")
    shutil.rmtree("runs")
    error, hint = dmz("fit-prior", "mine.h5", "--kind", "uniform").mistake()
    assert error == "error: no run has the weights that made mine.h5" and "--run" in hint and "--out" in hint
    assert not Path("mine-priors").exists()
    assert dmz("fit-prior", "mine.h5", "--kind", "uniform", "--out", "p").code == 0


def test_priors_given_other_tables_have_other_names(run):
    table = BitTable.read(run.bits)
    Path("a").mkdir()
    Path("b").mkdir()
    table.write("a/edges.h5")
    import dataclasses

    dataclasses.replace(table, bits=1 - table.bits).write("b/edges.h5")
    one, two = (fit(table, run.bits, "bernoulli", given=f"{name}/edges.h5") for name in "ab")
    assert one.folder.name == "bernoulli-given-edges" and two.folder.name.startswith("bernoulli-given-edges-")
    for name, fitted in (("a", one), ("b", two)):  # again, each finds its own
        assert fit(table, run.bits, "bernoulli", given=f"{name}/edges.h5").folder == fitted.folder
    shutil.copy("b/edges.h5", "edges.h5")  # the same table elsewhere
    assert fit(table, run.bits, "bernoulli", given="edges.h5").folder == two.folder
    own = fit(table, run.bits, "bernoulli", given=str(run.bits))
    assert own.folder.name == "bernoulli-given-tiny"  # a run's own table goes by the run
    from dmzcli.codes.draw import draw_bits

    names = {draw_bits(run, 8, fitted.folder.name, 2, 0).name for fitted in (one, two, own)}
    assert names == {fitted.folder.name for fitted in (one, two, own)}


def test_encoding_again_takes_the_table_that_is_there(dmz, run):
    options = ("encode", "--run", run.path, "--device", "cpu", "--json")
    before = run.bits.stat().st_mtime_ns
    again = dmz(*options)
    assert again.json["reused"] and f"{run.bits} holds these bits already" in again.err
    assert run.bits.stat().st_mtime_ns == before
    drawn = ("--mode", "sample", "--out", "drawn.h5")
    assert [dmz(*options, *drawn, "--seed", seed).json["reused"] for seed in (0, 0, 1)] == [
        False,
        True,
        False,
    ]
    whole = run.bits.read_bytes()
    run.bits.write_bytes(whole[: len(whole) // 2])
    assert not dmz(*options).json["reused"] and BitTable.read(run.bits).dim == 8
    train_on(run)
    assert not dmz(*options).json["reused"]


def test_a_run_that_was_stopped_says_so(dmz, run):
    assert run.stopped is None and "stopped at" not in dmz("sample", "-n", "1", "--steps", "1").err
    steps = run.config.training.steps
    training = run.config.training.model_copy(update={"steps": steps + 7})
    run.save_config(run.config.model_copy(update={"training": training}))
    assert Run(run.path).stopped == (steps, steps + 7)
    told = f"{run.path} stopped at step {steps:,} of {steps + 7:,}; dmz train --run {run.path} goes on"
    device = ("--device", "cpu")
    for command in (
        ("sample", "-n", "1", "--steps", "1", *device),
        ("encode", *device),
        ("fit-prior", "--kind", "uniform"),
        ("probe", "--no-baselines"),
        ("likelihood", "-n", "1", "--every", "4", *device),
        ("reconstruct", "-n", "2", "--steps", "1", *device),
        ("report", *device),
    ):
        ended = dmz(*command)
        assert ended.code == 0, ended.err
        assert ended.err.count(told) == 1, (command, ended.err)


def test_a_run_that_may_only_be_read_is_read(dmz, run, monkeypatch):
    """What is asked for is done, though the run cannot note it."""

    def refuse(path, value):
        raise UserError(f"no permission to use {path}", "choose another folder with --out or --run")

    monkeypatch.setattr("dmzcli.codes.find.write_json", refuse)
    monkeypatch.setattr("dmzcli.analysis.probes.table.write_json", refuse)
    made = dmz("encode", "--run", run.path, "--out", "mine.h5", "--device", "cpu")
    assert made.code == 0 and Path("mine.h5").exists()
    assert "the run does not note where this table is: no permission to use runs/tiny/tables.json" in made.err
    probed = dmz("probe", run.bits, "--no-baselines")
    assert probed.code == 0 and "the run does not keep this result" in probed.err and "bits" in probed.out


def test_what_a_kill_after_the_last_word_left_is_swept_though_the_work_is_taken(dmz, run):
    from dmzcli.system.parts import Parts

    parts = Parts(run.bits)
    parts.folder.mkdir()
    (parts.folder / "parts.json").write_text("{}")
    assert dmz("encode", "--run", run.path, "--device", "cpu", "--json").json["reused"]
    assert not parts.folder.exists()
    assert dmz("fit-prior", "--kind", "chow-liu").code == 0
    checkpoint = run.priors / ".chow-liu.fit"
    checkpoint.mkdir()
    assert dmz("fit-prior", "--kind", "chow-liu", "--json").json["reused"] and not checkpoint.exists()
    options = ("encode", "--run", run.path, "--out", "mine.h5", "--device", "cpu")
    assert dmz(*options).code == 0
    (run.path / ".tables.json.tmp").mkdir()
    (run.path / ".tables.json.lock").touch()
    assert dmz(*options).code == 0 and not list(run.path.glob(".tables*"))
