"""The table of scores over steps."""

import json
import shutil
from pathlib import Path

import pytest

OPTIONS = ("--features", "tiny", "-n", "24", "--device", "cpu")


@pytest.fixture(scope="module")
def plain(make_run):
    return make_run("plain", model__latent="none")


@pytest.fixture
def both(workshop, plain):
    shutil.copytree(plain / "runs" / "plain", "runs/plain")
    return Path("runs")


def sweep(dmz, *arguments):
    ended = dmz("sweep-steps", *OPTIONS, *arguments, "--json")
    assert ended.code == 0, ended.err
    return ended


def test_every_cell_is_made_and_kept(dmz, both, tiny_extractor):
    facts = sweep(dmz, "--steps", "5,2", "--samplers", "ddim,ancestral").json
    cells = [(cell["source"], cell["sampler"], cell["steps"]) for cell in facts["cells"]]
    assert len(set(cells)) == len(cells) == 3 * 2 * 2
    assert {source for source, _, _ in cells} == {"bernoulli", "encoded", "plain"}
    assert [t for _, _, t in cells] == sorted(t for _, _, t in cells)  # the cheap ones first
    folder = Path(facts["sweep"]).parent
    assert folder == Path("runs/tiny/sweeps/steps")
    for source, sampler, steps in cells:
        card = json.loads((folder / "cards" / f"{source}-{sampler}-{steps:03d}.json").read_text())
        assert card["generated"]["made"]["sampler"] == sampler and card["reference"]["split"] == "train"
        assert (folder / "cards" / f"{source}-{sampler}-{steps:03d}.png").exists()
    assert (folder / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    table = (folder / "sweep.md").read_text().splitlines()
    assert table[0] == "| bits | sampler | T=2 | T=5 |" and len(table) == 2 + 6


def test_a_cell_equals_the_evaluation_of_the_same_samples(dmz, both, tiny_extractor):
    (cell,) = sweep(dmz, "--steps", "3", "--samplers", "ddim", "--bits", "prior").json["cells"]
    evaluated = dmz(
        "evaluate", *OPTIONS, "--run", "runs/tiny", "--steps", "3", "--sampler", "ddim", "--split", "train",
        "--metrics", "fid", "--json",
    ).json  # fmt: skip
    assert evaluated["scores"][0]["value"] == pytest.approx(cell["value"], abs=1e-12)


def test_again_takes_what_is_there_and_nothing_else(dmz, both, tiny_extractor, monkeypatch):
    import dmzcli.studies.step_sweep

    first = sweep(dmz, "--steps", "2,3", "--samplers", "ddim", "--bits", "encoded").json
    made = []
    decode = dmzcli.studies.step_sweep.decode
    monkeypatch.setattr(
        dmzcli.studies.step_sweep, "decode", lambda *a, **k: made.append(1) or decode(*a, **k)
    )
    again = sweep(dmz, "--steps", "2,3", "--samplers", "ddim", "--bits", "encoded").json
    assert again["cells"] == first["cells"] and not made
    sweep(dmz, "--steps", "2,3,4", "--samplers", "ddim", "--bits", "encoded")
    assert len(made) == 1
    sweep(dmz, "--steps", "2", "--samplers", "ddim", "--bits", "encoded", "--seed", "1")
    assert len(made) == 2  # other noise is another cell


def test_cells_of_an_earlier_solver_are_made_again(dmz, both, tiny_extractor):
    """A card of before the second-order solvers ended in first order says no law."""
    command = ("--samplers", "ancestral,dpm++", "--bits", "encoded", "--steps", "4")
    first = sweep(dmz, *command).json
    cards = Path(first["sweep"]).parent / "cards"
    for name in ("ancestral", "dpm++"):
        file = cards / f"encoded-{name}-004.json"
        card = json.loads(file.read_text())
        assert card["sweep"].pop("law", 1) == (2 if name == "dpm++" else 1)
        card["scores"][0]["value"] = -1.0
        file.write_text(json.dumps(card))
    values = {cell["sampler"]: cell["value"] for cell in sweep(dmz, *command).json["cells"]}
    assert values["ancestral"] == -1.0 and values["dpm++"] == first["cells"][1]["value"]


def test_another_spacing_is_another_sweep(dmz, both, tiny_extractor):
    options = ("--steps", "3", "--samplers", "ancestral", "--bits", "encoded")
    usual, same, other = (
        sweep(dmz, *options, *more).json for more in ((), ("--spacing", "uniform"), ("--spacing", "trailing"))
    )
    assert usual["cells"] == same["cells"] != other["cells"]
    assert [Path(facts["sweep"]).parent.name for facts in (usual, same, other)] == [
        "steps",
        "steps-uniform",
        "steps-trailing",
    ]
    card = json.loads(Path("runs/tiny/sweeps/steps-trailing/cards/encoded-ancestral-003.json").read_text())
    assert card["generated"]["made"]["spacing"] == "trailing"
    file = Path("runs/tiny/sweeps/steps-trailing/cards/encoded-ancestral-003.json")
    file.write_text(json.dumps({**card, "scores": []}))
    assert "holds no score" in dmz("sweep-steps", *OPTIONS, *options, "--spacing", "trailing").mistake()[0]


def test_two_priors_of_one_kind_are_two_rows(dmz, both, tiny_extractor):
    from dmzcli.codes.fit import fit
    from dmzcli.codes.table import BitTable

    fit(
        BitTable.read(Path("runs/tiny/bits.h5")),
        Path("runs/tiny/bits.h5"),
        "bernoulli",
        ["smoothing=40"],
        out=Path("second"),
    )
    options = (
        "--steps",
        "2",
        "--samplers",
        "ddim",
        "--bits",
        "prior",
        "--prior",
        "bernoulli",
        "--prior",
        "second",
    )
    cells = sweep(dmz, *options).json["cells"]
    assert len({cell["source"] for cell in cells}) == 2
    assert all(cell["source"].startswith("bernoulli-") for cell in cells)


def test_a_run_that_is_elsewhere(dmz, both, tiny_extractor):
    Path("runs").rename("elsewhere")
    cells = sweep(dmz, "--run", "elsewhere/tiny", "--steps", "2", "--samplers", "ddim").json["cells"]
    assert "plain" in {cell["source"] for cell in cells}  # found beside the run
    shutil.rmtree("elsewhere/plain")
    ended = sweep(dmz, "--run", "elsewhere/tiny", "--steps", "2", "--samplers", "ddim")
    assert "plain is left out" in ended.err


def test_fewer_real_images_than_cells_have_are_told(dmz, workshop, tiny_extractor):
    arguments = ("--steps", "2", "--samplers", "ddim", "--bits", "encoded", "--features", "tiny", "-n", "401")
    ended = dmz("sweep-steps", *arguments, "--json")
    count = ended.json["real_count"]
    assert count < 401 and f"has {count} test images" in ended.err
    same = dmz("sweep-steps", *arguments, "--split", "test", "--json", "--out", "s").json
    assert same["real"] is None  # the reference itself is no line to compare with


def test_without_a_plain_run_it_says_so(dmz, workshop, tiny_extractor):
    ended = sweep(dmz, "--steps", "2", "--samplers", "ddim")
    assert "plain is left out" in ended.err
    assert {cell["source"] for cell in ended.json["cells"]} == {"bernoulli", "encoded"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--steps", "4,x"), "--steps 4,x is no list"),
        (("--steps", "0"), "--steps 0 is no list"),
        (("--steps", "51"), "--steps 51 does not fit"),
        (("--samplers", "dimd"), "unknown sampler 'dimd'"),
        (("--bits", "some"), "--bits some is none of prior"),
        (("-n", "3"), "--count 3 is too few"),
        (("--spacing", "some"), "unknown spacing 'some'"),
        (("--samplers", ","), "there is nothing to sweep"),
        (("--bits", ","), "there is nothing to sweep"),
        (("--bits", "plain", "--steps", "2"), "there is nothing to sweep"),
        (("--split", "dev", "--steps", "2"), "unknown split 'dev'"),
        (("--plain", "runs/tiny", "--steps", "2"), "is no plain diffusion model"),
    ],
)
def test_wrong_input(dmz, workshop, tiny_extractor, arguments, says):
    error, _ = dmz("sweep-steps", *OPTIONS, *arguments).mistake()
    assert says in error


def test_a_sweep_knows_the_classes_that_were_asked_for(dmz, workshop, tiny_extractor, monkeypatch):
    """As an evaluation of the same samples does: else the intervals are too wide."""
    from dmzcli.studies import step_sweep

    assert dmz("fit-prior", "--run", "runs/tiny", "--kind", "bernoulli", "--given", "labels").code == 0
    seen, evaluate = [], step_sweep.evaluate

    def seeing(samples, *arguments, **options):
        seen.append(samples)
        return evaluate(samples, *arguments, **options)

    monkeypatch.setattr(step_sweep, "evaluate", seeing)
    sweep(dmz, "--prior", "bernoulli-given-labels", "--bits", "prior", "--steps", "2", "--samplers", "ddim")
    assert [list(samples.strata) for samples in seen if samples.made] == [[*range(10), *range(10), *range(4)]]
