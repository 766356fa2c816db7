"""A study: its file, its cells, what is measured of them, and its tables."""

import json
import shutil
from pathlib import Path

import pytest

from dmzcli.errors import UserError
from dmzcli.studies.study import Done, read_study
from dmzcli.studies.study.measures import MEASURES, Measure, Number
from dmzcli.studies.study.tables import Entry, tables

SETTINGS = {
    "model.channels": 8,
    "model.multipliers": [1, 2],
    "model.blocks": 1,
    "model.attention": [4],
    "model.heads": 2,
    "model.encoder_channels": [8, 16],
    "diffusion.timesteps": 50,
    "training.batch_size": 16,
    "training.warmup": 0,
    "training.precision": "no",
    "training.ema": 0.9,
}
SCORES = {
    "bits": ["bernoulli", "encoded"],
    "steps": [2],
    "samplers": ["ddim"],
    "count": 24,
    "features": "tiny",
}


def text_of(axes="", train="images = 96", measure=None, **top):
    """A study's file."""

    def line(key, value):
        return f"{json.dumps(key)} = {json.dumps(value)}\n"

    text = "".join(line(key, value) for key, value in {"title": "Bits", **top}.items())
    text += f'[train]\ndataset = "digits"\n{train}\n[train.settings]\n'
    text += "".join(line(key, value) for key, value in SETTINGS.items())
    text += f"[axes]\n{axes}\n"
    for name, options in (measure or {"scores": SCORES}).items():
        text += f"[measure.{name}]\n" + "".join(line(key, value) for key, value in options.items())
    return text


@pytest.fixture
def write(isolated):
    def call(*arguments, **options):
        file = Path("bits.toml")
        file.write_text(text_of(*arguments, **options), encoding="utf-8")
        return file

    return call


def test_cells_are_the_product_of_axes_and_seeds(write):
    ways = 'soft = {"model.estimator" = "soft"}\nhard = {"model.estimator" = "straight-through"}'
    axes = f'"model.bits" = [4, 8]\n[axes.how]\n{ways}'
    study = read_study(write(axes, "images = 100\nseeds = [3, 5]"))
    names = [cell.name for cell in study.cells()]
    assert names == [
        f"bits-{bits}_how-{how}_seed-{seed}" for seed in (3, 5) for bits in (4, 8) for how in ("soft", "hard")
    ]
    for cell in study.cells():
        config = study.plan(cell).config
        assert config.model.bits == int(cell.labels["bits"]) and config.training.seed == cell.seed
        assert (config.model.estimator == "soft") == (cell.labels["how"] == "soft")
        assert config.training.steps == 7  # 100 images in batches of 16


def test_settings_of_the_command_win(write):
    study = read_study(write('"model.bits" = [4]'), ["training.ema=0.25", "model.attention=[]"])
    (cell,) = study.cells()
    config = study.plan(cell).config
    assert (config.training.ema, config.model.attention, config.model.bits) == (0.25, (), 4)
    with pytest.raises(UserError, match="unknown setting"):
        read_study(write('"model.bits" = [4]'), ["training.emma=1"])


def test_an_axis_of_settings_that_share_their_last_word_keeps_its_section(write):
    axes = '"data.size" = [8]\n"model.bits" = [4]\n"other.bits" = {a = {"training.ema" = 0.5}}'
    (cell,) = read_study(write(axes)).cells()
    assert list(cell.labels) == ["size", "model.bits", "other.bits"]


@pytest.mark.parametrize(
    ("axes", "options", "said"),
    [
        ('"model.bit" = [4]', {}, "model.bit"),
        ('"model.bits" = []', {}, "no values"),
        ('"model.bits" = [4, 4]', {}, "twice"),
        ('"model.bits" = [0]', {}, "model.bits"),
        ("", {"measure": {"score": {}}}, "unknown measure 'score'"),
        ("", {"measure": {"scores": {"step": [2]}}}, "unknown key 'step' in \\[measure.scores\\]"),
        ("", {"measure": {"scores": {**SCORES, "bits": ["mixtures"]}}}, "mixtures"),
        ("", {"train": "image = 3"}, "unknown key 'image'"),
        ("", {"train": "images = 0"}, "images"),
        ('"training.steps" = [3]', {}, "both images and training.steps"),
        ("", {"prior_settings": ["minutes=1"]}, "minutes"),
        ("", {"prior_settings": ["smoothing=-1"]}, "smoothing"),
        ("", {"measure": {"scores": {**SCORES, "steps": [2, 2]}}}, "named twice"),
        ("", {"measure": {"scores": {**SCORES, "prefixes": [0]}}}, "prefixes"),
        ('x = {"a b" = {"training.ema" = 0.5}, "a-b" = {"training.ema" = 0.4}}', {}, "two cells"),
    ],
)
def test_a_mistake_is_found_before_anything_is_trained(write, axes, options, said):
    with pytest.raises(UserError, match=said):
        read_study(write(axes, **options))


def test_no_toml_and_no_file(isolated):
    with pytest.raises(UserError, match="does not exist"):
        read_study(Path("none.toml"))
    Path("bad.toml").write_text("title = ", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read as TOML"):
        read_study(Path("bad.toml"))


def test_every_cell_is_trained_measured_and_kept(dmz, write, tiny_extractor):
    file = write(
        '"model.bits" = [4, 8]',
        measure={
            "scores": {**SCORES, "split": "test"},
            "codes": {"priors": ["bernoulli"]},
            "probe": {},
            "reconstruction": {"count": 20, "steps": 2},
        },
    )
    facts = dmz("study", file, "--device", "cpu", "--json").json
    assert (facts["cells"], facts["measured"], facts["missing"], facts["failed"]) == (2, 2, [], {})
    folder = Path("studies/bits")
    whole = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    for cell in whole["cells"]:
        assert (folder / "runs" / cell["cell"] / "model.safetensors").exists()
        found = {(n["what"].split()[0], *n["where"].values()) for n in cell["numbers"]}
        assert cell["labels"]["bits"] in ("4", "8")
        scored = {("fid-tiny-means,", source, "ddim", 2) for source in ("bernoulli", "encoded")}
        rest = {("held-out", "bernoulli"), ("accuracy", "bits"), ("mse", "unipc", 2), ("psnr", "unipc", 2)}
        assert {(w.replace("fid-tiny,", "fid-tiny-means,"), *r) for w, *r in found} == scored | rest
    probed = next(table for table in facts["tables"] if "probe" in table["what"])["rows"]
    assert [row["bits"] for row in probed] == ["4", "8"] and "of bits" not in probed[0]
    page = (folder / "study.html").read_text(encoding="utf-8")
    table = (folder / "study.md").read_text(encoding="utf-8")
    assert "2 of 2 cells are measured" in page and "| bits | bernoulli | encoded |" in table
    assert (folder / "study-1.png").read_bytes()[:4] == b"\x89PNG"


def test_again_makes_nothing_and_more_axes_make_the_new_ones_alone(dmz, write, tiny_extractor, monkeypatch):
    from dmzcli.studies.study import loop

    dmz("study", write('"model.bits" = [4]'), "--device", "cpu", "--json")
    trained, train = [], loop.train
    monkeypatch.setattr(
        loop, "train", lambda config, *a: trained.append(config.model.bits) or train(config, *a)
    )
    assert dmz("study", write('"model.bits" = [4]'), "--device", "cpu", "--json").json["measured"] == 1
    assert trained == []
    facts = dmz("study", write('"model.bits" = [4, 8]'), "--device", "cpu", "--json").json
    assert facts["measured"] == 2 and trained == [8]
    listed = dmz("study", write('"model.bits" = [4, 16]'), "--list", "--json").json["cells"]
    assert [cell["state"] for cell in listed] == ["measured", "to come"] and trained == [8]


def test_a_cell_of_other_measures_is_measured_anew_from_the_same_run(dmz, write, tiny_extractor):
    dmz("study", write('"model.bits" = [4]'), "--device", "cpu", "--json")
    weights = Path("studies/bits/runs/bits-4_seed-0/model.safetensors")
    before = weights.stat().st_mtime_ns
    file = write('"model.bits" = [4]', measure={"scores": {**SCORES, "steps": [2, 3]}})
    facts = dmz("study", file, "--device", "cpu", "--json").json
    assert len(facts["tables"][0]["rows"]) == 1 and len(facts["tables"][0]["rows"][0]) == 1 + 4 + 1
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["training.decay", "weights", "gone"])
def test_numbers_of_other_weights_are_not_kept(dmz, write, tiny_extractor, change):
    file = write('"model.bits" = [4]')
    dmz("study", file, "--device", "cpu", "--json")
    run = Path("studies/bits/runs/bits-4_seed-0")
    settings = ("--set", "training.decay=0.5") if change == "training.decay" else ()
    if change == "gone":
        shutil.rmtree(run)
    elif change == "weights":
        from dmzcli.system.files import load_tensors, save_tensors

        tensors, metadata = load_tensors(run / "model.safetensors")
        save_tensors(run / "model.safetensors", {name: t + 0.01 for name, t in tensors.items()}, metadata)
    (cell,) = dmz("study", file, *settings, "--list", "--json").json["cells"]
    assert cell["state"] == "to come"


def test_longer_trained_weights_are_not_passed_off_as_shorter(dmz, write, tiny_extractor):
    dmz("study", write('"model.bits" = [4]', "images = 96"), "--device", "cpu", "--json")
    ended = dmz("study", write('"model.bits" = [4]', "images = 48"), "--device", "cpu")
    error, _ = ended.mistake()
    assert "was trained for 6 steps already, more than the 3 of the study" in error


def test_a_damaged_prior_is_fitted_again(dmz, write, tiny_extractor):
    dmz("study", write('"model.bits" = [4]'), "--device", "cpu", "--json")
    (Path("studies/bits/runs/bits-4_seed-0/priors/bernoulli") / "prior.json").write_text(
        "{", encoding="utf-8"
    )
    file = write('"model.bits" = [4]', measure={"scores": {**SCORES, "steps": [3]}})
    assert dmz("study", file, "--device", "cpu", "--json").json["measured"] == 1


@pytest.mark.parametrize(
    ("axes", "measure", "said"),
    [
        ('"model.bits" = [4]', {"scores": {**SCORES, "bits": ["plain"]}}, "may be absent"),
        ('"model.bits" = [4]', {"scores": {**SCORES, "guidance": [2.0]}}, "--guidance needs a model"),
        ('"model.bits" = [4]', {"scores": {**SCORES, "guidance_interval": "0,1"}}, "without guidance"),
        ('"model.bits" = [4]', {"reconstruction": {"steps": 100}}, "100"),
        ('"model.nested" = [true]', {"probe": {"prefixes": [100]}}, "all of more bits"),
        (
            '[axes.x]\na = {"model.nested" = true, "model.latent" = "categorical"}',
            {"codes": {"prefixes": [6]}},
            "cuts a variable of 4 bits",
        ),
    ],
)
def test_what_a_cell_cannot_be_measured_for_is_missed_before_training(dmz, write, axes, measure, said):
    error, _ = dmz("study", write(axes, measure=measure), "--device", "cpu").mistake()
    assert said in error and not Path("studies").exists()


def test_a_plain_model_is_scored_and_has_no_bits_to_measure(dmz, write, tiny_extractor):
    axes = '[axes.latent]\nbits = {"model.bits" = 4}\nplain = {"model.latent" = "none"}'
    file = write(axes, measure={"scores": {**SCORES, "split": "test"}, "codes": {"priors": ["bernoulli"]}})
    facts = dmz("study", file, "--device", "cpu", "--json").json
    scores, codes = facts["tables"]
    assert [bool(row["plain"]) for row in scores["rows"]] == [False, True]
    assert [row["latent"] for row in codes["rows"]] == ["bits"]


def test_prefixes_and_guidance_of_nested_bits(dmz, write, tiny_extractor):
    scores = {
        **SCORES,
        "bits": ["bernoulli", "encoded", "plain"],
        "prefixes": [2, 4, 64],
        "guidance": [1.0, 2.0],
    }
    file = write(
        '[axes.bits]\nnested = {"model.bits" = 4, "model.nested" = true}\nall = {"model.bits" = 4}',
        measure={
            "scores": scores | {"bits": ["bernoulli", "encoded"], "guidance": [1.0]},
            "codes": {"priors": ["bernoulli"], "prefixes": [2, 4]},
            "probe": {"prefixes": [2, 4]},
        },
    )
    facts = dmz("study", file, "--device", "cpu", "--json").json
    assert facts["failed"] == {}
    for table in facts["tables"]:
        nested, whole = ({k: v for k, v in row.items() if "test images" not in k} for row in table["rows"])
        assert all(nested.values()) and sum(map(bool, whole.values())) == 1 + (len(whole) - 1) // 2, table
    run = Path("studies/bits/runs/bits-nested_seed-0")
    assert (run / "priors" / "bernoulli-prefix-2").exists() and (run / "priors" / "bernoulli").exists()
    file = write(
        '[axes.bits]\nnested = {"model.bits" = 4, "model.nested" = true}', measure={"scores": scores}
    )
    (table, *_) = dmz("study", file, "--device", "cpu", "--json").json["tables"]
    assert (
        len(table["rows"][0]) == 1 + 2 * (2 + 2 + 1) + 1
    )  # of w: two sources at two prefixes, and none; real ones


def test_a_cell_that_fails_keeps_the_others_and_is_said(dmz, write, tiny_extractor):
    file = write('"training.learning_rate" = [0.001, 1e30]')
    ended = dmz("study", file, "--device", "cpu")
    error, _ = ended.mistake()
    assert "1 of 2 cells failed" in error and "no longer finite" in error
    whole = json.loads(Path("studies/bits/study.json").read_text(encoding="utf-8"))
    assert [bool(cell["failed"]) for cell in whole["cells"]] == [False, True]
    assert "failed" in Path("studies/bits/study.md").read_text(encoding="utf-8")
    states = [cell["state"] for cell in dmz("study", file, "--list", "--json").json["cells"]]
    assert states[0] == "measured" and states[1].startswith("failed: ")  # whoever asks


def test_a_cell_that_another_makes_is_left_to_it(dmz, write, tiny_extractor):
    from dmzcli.system.locks import hold

    file = write('"model.bits" = [4, 8]')
    cell = Path("studies/bits/cells/bits-4_seed-0.json")
    cell.parent.mkdir(parents=True)
    import subprocess
    import sys

    program = (
        "import sys, time\nfrom pathlib import Path\nfrom dmzcli.system.locks import hold\n"
        f"with hold(Path({str(cell)!r})):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        facts = dmz("study", file, "--device", "cpu", "--json").json
    finally:
        other.communicate("")
    assert facts["missing"] == ["bits-4_seed-0"] and facts["measured"] == 1
    with hold(cell):
        pass
    assert dmz("study", file, "--device", "cpu", "--json").json["measured"] == 2


def test_no_hours_leave_all_to_come(dmz, write, tiny_extractor):
    facts = dmz("study", write('"model.bits" = [4, 8]'), "--max-hours", "0", "--json").json
    assert len(facts["missing"]) == 2 and facts["tables"] == []


def test_seeds_are_the_error_bars(write):
    study = read_study(write('"model.bits" = [4]', "images = 96\nseeds = [0, 1]"))
    numbers = {
        cell.name: [Number("score", {"T": 2}, value, 0.5)]
        for cell, value in zip(study.cells(), (1.0, 3.0), strict=True)
    }
    (table,) = tables(study, Done(numbers, {}, ()))
    (entry,) = table.entries.values()
    assert (entry.mean, entry.spread, entry.seeds) == (2.0, pytest.approx(2**0.5), 2)
    assert table.rows() == [{"bits": "4", "value": "2 ± 1.4"}]
    first, second = (cell.name for cell in study.cells())
    (table,) = tables(study, Done({first: numbers[first]}, {second: "why"}, ()))
    assert table.rows() == [{"bits": "4", "value": "1 ± 0.98 (1 of 2)"}]
    one = Entry.of([Number("score", {}, 1.0, 0.5)])
    assert (one.spread, one.seeds) == (pytest.approx(0.98), 1)


def test_every_measure_says_what_it_is():
    for kind in MEASURES.values():
        assert issubclass(kind, Measure) and kind.__doc__
        kind()  # every option has a default


def test_labels_that_are_not_there_are_missed_before_training(dmz, write, isolated):
    import numpy as np

    np.save("noise.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8))
    file = write('"model.bits" = [4]', "images = 32\n", measure={"probe": {}})
    file.write_text(file.read_text(encoding="utf-8").replace('"digits"', '"noise.npy"'), encoding="utf-8")
    error, _ = dmz("study", file, "--device", "cpu").mistake()
    assert "no labels" in error and not Path("studies").exists()


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "examples" / "studies").glob("*.toml")))
def test_the_ready_studies_are_well_declared(file):
    study = read_study(file)
    assert study.cells() and study.question
