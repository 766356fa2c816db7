"""``dmz inspect``: one self-contained page and one JSON; sections that cannot be are left out and say so."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dmzcli.codes.table import BitTable

FEW = ("--count", "24", "--steps", "2", "--points", "4", "--bits", "3")


def numbers(file):
    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    return json.loads(Path(file).read_text(encoding="utf-8"), parse_constant=refuse)


def changed(run, name="table.h5", **fields):
    """The run's table with other fields, in a file."""
    table = BitTable.read(run.bits)
    BitTable(**{**vars(table), **fields}).write(name)
    return name


def test_the_page_and_the_json_of_a_run(dmz, run):
    out = dmz("inspect", "--run", "runs/tiny", *FEW, "--json").json
    page, facts = Path(out["page"]).read_text(encoding="utf-8"), numbers(out["json"])
    assert Path(out["page"]) == run.path / "inspect.html"
    for title in (
        "Each bit",
        "Classes and attributes",
        "The code",
        "Information over time",
        "Gallery",
        "Left out",
    ):
        assert f"<h2>{title}</h2>" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    bits = BitTable.read(run.bits).bits
    assert [bit["frequency"] for bit in facts["bits"]] == pytest.approx(bits.mean(0).tolist())
    assert facts["code"]["distinct"] == len(np.unique(bits, axis=0))
    assert set(facts["information"]["losses"]) == {"true", "other", "prior"}
    assert sum(bit["nats"] is not None for bit in facts["bits"]) == 3
    left_out = {"attributes", "attention maps", "I(x_t; z)", "loss without bits in the same network"}
    assert left_out <= set(facts["absent"])


def test_a_plain_run_gives_the_information(dmz, run, make_run):
    other = make_run("plain", model__latent="none") / "runs/plain"
    out = dmz("inspect", "--run", "runs/tiny", "--plain", other, *FEW, "--json").json
    facts = numbers(out["json"])
    assert "none" in facts["information"]["nats"] and "I(x_t; z)" not in facts["absent"]
    assert out["plain run"] == str(other)
    error, _ = dmz("inspect", "--run", "runs/tiny", "--plain", "runs/tiny", *FEW).mistake()
    assert "has bits of its own" in error


def test_another_schedule_is_refused(dmz, run, make_run):
    other = make_run("short", model__latent="none", diffusion__timesteps=40) / "runs/short"
    error, hint = dmz("inspect", "--run", "runs/tiny", "--plain", other, *FEW).mistake()
    assert "another noise schedule" in error and "diffusion.timesteps" in hint


def test_tokens_per_bit_have_attention_maps(dmz, make_run, monkeypatch):
    monkeypatch.chdir(make_run("tokens", model__tokens="per-bit"))
    out = dmz("inspect", "--run", "runs/tokens", *FEW, "--json").json
    assert "attention maps" not in out["absent"]
    assert "looks at the bit's token" in Path(out["page"]).read_text(encoding="utf-8")


def test_a_table_without_labels_leaves_their_section_out(dmz, run):
    name = changed(run, labels=None, label_names=())
    out = dmz("inspect", name, *FEW, "--json").json
    page = Path(out["page"]).read_text(encoding="utf-8")
    assert out["tests"] == 0 and "no labels" in out["absent"]["classes"]
    assert "<h2>Classes and attributes</h2>" not in page and "no labels" in page


def test_planted_bits_are_told(dmz, run):
    bits = BitTable.read(run.bits).bits.copy()
    bits[:, 2], bits[:, 3], bits[:, 4] = bits[:, 0], 1 - bits[:, 1], 1
    bits[:, :2] = np.random.default_rng(0).integers(0, 2, (len(bits), 2))
    bits[:, 2], bits[:, 3] = bits[:, 0], 1 - bits[:, 1]
    out = dmz("inspect", changed(run, bits=bits), *FEW, "--json").json
    assert (out["duplicates"], out["negations"], out["constant"]) == ({"2": 0}, {"3": 1}, [4])
    assert "dead: always 1" in Path(out["page"]).read_text(encoding="utf-8")


def test_a_table_of_no_run_says_what_its_bits_alone_say(dmz, run):
    name = changed(run, model="0" * 64)
    Path("elsewhere").mkdir()
    moved = Path(name).rename("elsewhere/foreign.h5")
    out = dmz("inspect", moved, "--json").json
    assert Path(out["page"]).name == "foreign-inspect.html"
    assert all("no run here" in out["absent"][part] for part in ("stability", "gallery"))


def test_a_table_of_another_run_is_refused(dmz, run):
    error, hint = dmz("inspect", changed(run, model="0" * 64), "--run", "runs/tiny").mistake()
    assert "another model" in error and "dmz encode" in hint


def test_fewer_rows_than_bits_are_refused(dmz, run):
    table = BitTable.read(run.bits)
    columns = {n: getattr(table, n)[:7] for n in ("bits", "probs", "labels", "split", "index")}
    error, hint = dmz("inspect", changed(run, **columns)).mistake()
    assert "7 rows of 8 bits" in error and "encode more" in hint


def test_images_of_another_size_are_refused(dmz, run):
    arguments = ("--run", "runs/tiny", "--set", "data.size=16", "--set", "data.fit=resize", *FEW)
    error, hint = dmz("inspect", *arguments).mistake()
    assert "16x16" in error and "8x8" in error and "--data-dir" in hint


def test_the_page_is_not_named_as_its_numbers(dmz, run):
    error, hint = dmz("inspect", "--out", "bits.json").mistake()
    assert "bits.json" in error and "bits.html" in hint
