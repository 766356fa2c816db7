"""Comparing priors: every number is what the prior itself says, on codes that it was not fitted to."""

import json

import numpy as np
import pytest

import priors
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.evaluation.scores import Score
from dmzcli.studies.code_images import FLIPS, Images, Judged, flipped
from dmzcli.studies.prior_comparison import compare
from dmzcli.studies.prior_table import Comparison, write
from dmzcli.system.progress import Silence
from priors.measures import nearest_distances, two_sample_accuracy


def table_of(split, seed=0, dim=6):
    """Codes whose bit 1 repeats bit 0: a tree sees what independence cannot."""
    codes = (np.random.default_rng(seed).random((len(split), dim)) < 0.4).astype(np.uint8)
    codes[:, 1] = codes[:, 0]
    return BitTable(
        bits=codes,
        split=np.asarray(split, np.uint8),
        index=np.arange(len(split)),
        family="bernoulli",
        cardinalities=np.full(dim, 2),
        dataset="made/1x1x1/0",
        model="0" * 64,
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def table():
    return table_of([0] * 400 + [1] * 100 + [2] * 200)


def compared(table, kinds, folder):
    table.write(folder / "bits.h5")
    return compare(table, folder / "bits.h5", kinds, folder=folder)


def test_numbers_are_the_priors_own_on_test(table, tmp_path):
    result = compared(table, ["bernoulli", "chow-liu"], tmp_path)
    assert (result.split, result.held_out, result.samples) == ("test", 200, 200)
    test, train = table.bits[table.rows("test")], table.bits[table.rows("train")]
    by_kind = {row.kind: row for row in result.rows}
    for kind, row in by_kind.items():
        prior = priors.load(tmp_path / kind)
        assert row.bits_per_code == pytest.approx(-prior.log_prob(test).mean() / np.log(2))
        nearest = nearest_distances(prior.sample(200, seed=0), train)
        assert (row.nearest, row.duplicates) == (nearest.mean(), (nearest == 0).mean())
    # Independence pays for bit 1 although bit 0 tells it: H(0.4) = 0.971 bits. A tree saves most of that.
    assert by_kind["bernoulli"].gain == pytest.approx(0, abs=1e-9)
    assert 0.8 < by_kind["chow-liu"].gain < 1.1
    assert [row.kind for row in result.rows] == ["chow-liu", "bernoulli"]


def test_files_hold_the_same_table(table, tmp_path):
    result = compared(table, ["uniform", "bernoulli"], tmp_path)
    write(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == result.facts()
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    assert len(lines) == 2 + 2 + 2
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_training_codes_against_held_out_ones_show_what_ideal_is(table, tmp_path):
    """Both are of one distribution, so the accuracy is a mean of 200 fair coins: 4 standard errors."""
    result = compared(table, ["uniform"], tmp_path)
    test, train = table.bits[table.rows("test")], table.bits[table.rows("train")]
    told = two_sample_accuracy(train, test)
    assert (result.reference_two_sample, result.reference_two_sample_error) == (told.accuracy, told.error)
    assert abs(told.accuracy - 0.5) < 4 * told.error
    last = result.table()[-2:]
    assert [row["prior"] for row in last] == ["(train codes)", "(test codes)"]
    assert last[0]["two-sample"] == f"{told.accuracy:.3f} ± {told.error:.3f}"
    assert last[0]["duplicates"] == last[1]["two-sample"] == ""


def test_no_held_out_code_is_shown_twice(table, tmp_path):
    """More images than held-out codes: fewer images of every prior, and it is said."""
    seen, said = [], []

    class Counting(Images):
        def score(self, codes, name):
            seen.append((name, len(codes), codes))
            return Judged(Score.jackknifed("fid", 1.0, [1.0, 1.1]), 0.5)

        def facts(self):
            return {"metric": "fid-made", "count": self.count}

    class Listening(Silence):
        def say(self, text):
            said.append(text)

    table.write(tmp_path / "bits.h5")
    images = Counting(
        None, None, None, "train", None, count=500, seed=0, batch_size=1, precision="no", talk=Listening()
    )
    result = compare(
        table, tmp_path / "bits.h5", ["uniform"], folder=tmp_path, images=images, talk=Listening()
    )
    assert [(name, count) for name, count, _ in seen] == [
        ("held-out codes", 200),
        *((f"held-out codes, {share} flipped", 200) for share in ("1%", "2%", "5%")),
        ("uniform", 200),
    ]
    assert sorted(map(bytes, seen[0][2])) == sorted(map(bytes, table.bits[table.rows("test")]))
    assert result.image_facts["count"] == 200
    assert "200 images of each instead of 500: there are 200 test codes" in said


def test_valid_serves_where_there_is_no_test(tmp_path):
    result = compared(table_of([0] * 100 + [1] * 40), ["uniform"], tmp_path)
    assert (result.split, result.held_out) == ("valid", 40)
    assert result.rows[0].bits_per_code == pytest.approx(6)


def test_refusals(table, tmp_path):
    with pytest.raises(UserError, match="unknown kind 'chowliu'") as error:
        compare(table, tmp_path / "bits.h5", ["chowliu"])
    assert error.value.hint == "did you mean 'chow-liu'?"
    with pytest.raises(UserError, match="has 5 held-out codes"):
        compared(table_of([0] * 50 + [2] * 5), ["uniform"], tmp_path)
    with pytest.raises(UserError, match="has 19 training codes"):
        compared(table_of([0] * 19 + [2] * 30), ["uniform"], tmp_path)


def test_settings_are_for_the_kinds_that_have_them_and_fits_are_kept(table, tmp_path):
    table.write(tmp_path / "bits.h5")
    kinds = ["uniform", "mixture", "chow-liu"]

    def again(**options):
        compare(table, tmp_path / "bits.h5", kinds, folder=tmp_path, **options)
        files = [tmp_path / kind / "prior.json" for kind in kinds]
        return [priors.load(file.parent).options for file in files], [f.stat().st_mtime_ns for f in files]

    options, first = again(settings=["components=2", "smoothing=7"])
    assert options[1].components == 2 and options[1].smoothing == options[2].smoothing == 7
    assert again(settings=["components=2", "smoothing=7"])[1] == first
    _, other = again(settings=["components=3", "smoothing=7"])
    assert [a == b for a, b in zip(first, other, strict=True)] == [True, False, True]
    _, seeded = again(settings=["components=3", "smoothing=7"], seed=1)
    assert not {*seeded} & {*other}
    (tmp_path / "chow-liu" / "prior.json").write_text("{")  # damaged: as if it were not there
    _, mended = again(settings=["components=3", "smoothing=7"], seed=1)
    assert [a == b for a, b in zip(mended, seeded, strict=True)] == [True, True, False]
    with pytest.raises(UserError, match="none of the kinds compared has the option 'component'") as error:
        again(settings=["component=2"])
    assert error.value.hint == "did you mean 'components'?"


def test_with_a_run_images_are_scored_too(dmz, workshop, tiny_extractor):
    options = (
        "--kind",
        "uniform",
        "--kind",
        "bernoulli",
        "--features",
        "tiny",
        "-n",
        "24",
        "--steps",
        "2",
        "--json",
    )
    facts = dmz("compare-priors", "--run", "runs/tiny", *options, "--device", "cpu").json
    assert facts["image_facts"]["metric"] == "fid-tiny" and facts["image_facts"]["steps"] == 2
    real, *controls = facts["real_codes"]
    assert real["images"] > 0 and real["images_error"] > 0 and "images_worse" not in real
    assert [control["flipped"] for control in controls] == list(FLIPS)
    assert facts["margin_in_score"] == pytest.approx(0.2 * real["images"])
    for row in facts["rows"]:
        assert row["images_worse"] == pytest.approx(row["images"] - real["images"])
        assert row["images_worse_error"] > 0 and row["verdict"] in ("enough", "worse", "undecided")
    by_kind = {row["kind"]: row["images"] for row in facts["rows"]}
    # The same codes, noise, sampler and reference as a sweep's: the same number.
    sweep = (
        "sweep-steps",
        "--run",
        "runs/tiny",
        "--bits",
        "prior",
        "--prior",
        "bernoulli",
        "--samplers",
        "ancestral",
    )
    (cell,) = dmz(*sweep, "--steps", "2", "-n", "24", "--features", "tiny", "--json").json["cells"]
    assert by_kind["bernoulli"] == pytest.approx(cell["value"], abs=1e-9)
    table = (workshop / "runs/tiny/priors/comparison.md").read_text()
    assert table.splitlines()[0].endswith("| fid-tiny | beyond real | verdict | commonest |")
    assert "uniform (the paper's)" in table and "(test codes, 5% of bits flipped)" in table
    generous = dmz("compare-priors", "--run", "runs/tiny", *options, "--margin", "1e6").json
    assert {row["verdict"] for row in generous["rows"]} == {"enough"}
    none = dmz("compare-priors", "--run", "runs/tiny", "--kind", "uniform", "--count", "0", "--json").json
    assert none["image_facts"] is None
    assert "--steps means nothing without --run" in dmz("compare-priors", "--steps", "3").mistake()[0]


def test_flipping_flips_that_share_of_bits_the_same_ones_each_time():
    codes = np.random.default_rng(0).integers(0, 2, (2000, 50), dtype=np.uint8)
    changed = flipped(codes, 0.05, 3) ^ codes
    assert abs(changed.mean() - 0.05) < 4 * (0.05 * 0.95 / codes.size) ** 0.5
    assert (flipped(codes, 0.05, 3) ^ codes == changed).all()
    assert not (changed < (flipped(codes, 0.01, 3) ^ codes)).any()  # few flips are among the many


@pytest.mark.parametrize(
    ("worse", "verdict"), [(0.1, "enough"), (0.5, "undecided"), (2.0, "worse"), (-3.0, "enough")]
)
def test_a_verdict_is_what_the_whole_interval_says(worse, verdict):
    """The margin is 0.5 and the interval ± 0.2: enough below, worse above, and nothing where it holds the margin."""
    left_out = np.random.default_rng(0).normal(size=20)
    left_out *= 0.1 / Score.jackknifed("fid", 0.0, left_out).error
    judged = Judged(Score("fid", 5.0 + worse, 0.1), None, Score.jackknifed("fid", worse, left_out))
    assert judged.verdict(0.5) == verdict
    assert Judged(Score("fid", 5.0, 0.1), None).verdict(0.5) == ""


def test_images_that_were_scored_are_not_made_again(dmz, workshop, tiny_extractor, monkeypatch):
    from dmzcli.studies import code_images

    command = ("compare-priors", "--run", "runs/tiny", "--kind", "uniform", "--features", "tiny")
    command += ("-n", "24", "--steps", "2", "--json", "--device", "cpu")
    first, made = dmz(*command).json, []
    decode = code_images.decode
    monkeypatch.setattr(code_images, "decode", lambda *a: made.append(1) or decode(*a))
    assert dmz(*command).json["rows"][0]["images_worse_error"] == first["rows"][0]["images_worse_error"]
    assert not made
    dmz(*command, "--seed", "1")
    assert len(made) == 5  # real codes, three controls, one prior: other noise


def test_a_table_of_other_images_is_not_compared_with_the_runs_own(dmz, workshop):
    import dataclasses

    table = BitTable.read(workshop / "runs/tiny/bits.h5")
    dataclasses.replace(table, dataset="others/8x8x1/0").write(workshop / "o.h5")
    error, hint = dmz("compare-priors", "o.h5", "--run", "runs/tiny", "-n", "24").mistake()
    assert "o.h5 was made from others/8x8x1/0" in error and "--data-dir" in hint


def judged(worse, half):
    left_out = np.random.default_rng(0).normal(size=20)
    left_out *= half / 1.96 / Score.jackknifed("fid", 0.0, left_out).error
    return Judged(Score("fid", 5.0, 0.1), None, Score.jackknifed("fid", worse, left_out))


@pytest.mark.parametrize(
    ("worse", "seen", "says"),
    [
        ((0.5, 1.0, 2.0), 0.01, None),
        ((0.1, 1.0, 2.0), 0.02, "does not see 1% of the bits"),
        ((-0.5, 0.1, 0.1), None, "does not see 5% of the bits"),
    ],
)
def test_a_score_that_does_not_see_flipped_bits_is_told(worse, seen, says):
    real = {0.0: Judged(Score("fid", 5.0, 0.1), None)}
    real |= {share: judged(value, 0.2) for share, value in zip(FLIPS, worse, strict=True)}
    blank = dict.fromkeys(("reference_nearest", "reference_duplicates", "reference_two_sample"), 0.0)
    made = Comparison([], 6, "test", 200, 200, **blank, reference_two_sample_error=0.0, seed=0, real=real)
    assert made.seen == seen
    assert made.remark() is None if says is None else says in made.remark()
