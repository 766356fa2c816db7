"""What bad input gets: one sentence that names the argument, its value and the expectation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import priors
from priors.measures import nearest_distances, two_sample_accuracy
from priors.registry import check_class


def bits(n: int = 60, dim: int = 4) -> np.ndarray:
    return (np.random.default_rng(0).random((n, dim)) < 0.4).astype(np.uint8)


@pytest.fixture
def prior() -> priors.Prior:
    made = priors.create("bernoulli", dim=4)
    made.fit(bits())
    return made


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: priors.create("bernuli", dim=4), "unknown prior 'bernuli'"),
        (lambda p: priors.create("bernoulli", dim=0), "dim is 0; expected at least 1"),
        (lambda p: priors.create("bernoulli", dim=2.5), "dim is 2.5; expected an integer"),
        (lambda p: priors.create("bernoulli", dim=4, smothing=1.0), "unknown option 'smothing'"),
        (
            lambda p: priors.create("bernoulli", dim=4, smoothing=-1.0),
            "option 'smoothing' .* is -1.0; expected",
        ),
        (lambda p: priors.create("bernoulli", dim=4).sample(1), "'bernoulli' is not fitted"),
        (lambda p: p.fit(bits(), given_valid=bits()), "given_valid was passed without valid"),
        (lambda p: p.fit(bits(), valid=bits(9, 3)), "valid has 3 columns; expected 4"),
        (lambda p: p.fit(bits(), valid=bits()[:0]), "valid has 0 rows"),
        (lambda p: p.fit(bits(), valid=bits(), given=bits()), "given_valid is missing"),
        (lambda p: p.fit(bits(), valid=bits(), given_valid=bits()), "given is missing"),
        (lambda p: p.fit(bits(), given=bits(59)), "given has 59 rows; expected 60"),
        (lambda p: p.log_prob(bits(), given=bits()), "given was passed; the prior was fitted without"),
        (lambda p: p.sample(0), "n is 0; expected at least 1"),
        (lambda p: p.sample(2, seed="x"), "seed is 'x'; expected an integer"),
        (lambda p: p.sample(2, temperature=0.0), "temperature is 0.0; expected a finite number above 0"),
        (lambda p: p.sample(2, temperature=float("nan")), "temperature is nan"),
    ],
)
def test_a_wrong_argument_is_named(prior: priors.Prior, call: object, message: str) -> None:
    with pytest.raises(priors.PriorError, match=message):
        call(prior)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[0, 1, 0, 1]], "is a list; expected a numpy array of uint8"),
        ("0101", "is a str; expected a numpy array of uint8"),
        (None, "is a NoneType; expected a numpy array of uint8"),
        (np.ma.masked_equal(bits(), 1), "is a MaskedArray; expected a numpy array of uint8"),
        (np.asmatrix(bits()), "is a matrix; expected a numpy array of uint8"),
        (np.zeros((60, 4), np.float32), r"has dtype float32; expected uint8 \(or bool\)"),
        (np.zeros((60, 4), object), r"has dtype object; expected uint8"),
        (np.zeros((60, 4, 1), np.uint8), r"has shape \(60, 4, 1\); expected two axes \(rows, bits\)"),
        (np.zeros((60, 0), np.uint8), "has (0|no) columns; expected"),
        (np.full((60, 4), 255, np.uint8), "holds the value 255; expected only 0 and 1"),
        (np.zeros((59, 4), np.uint8), "has 59 rows; expected 60"),
    ],
)
def test_a_wrong_array_is_named_wherever_it_is_passed(array: object, message: str) -> None:
    """59 rows are wrong only for what goes along with 60 codes."""
    conditional = priors.create("bernoulli", dim=4)
    conditional.fit(bits(), given=bits(dim=4))
    new = priors.create("bernoulli", dim=4)
    for call in (
        lambda: new.fit(bits(), given=array),
        lambda: conditional.log_prob(bits(), given=array),
        lambda: conditional.sample(60, given=array),
    ):
        if array is None:  # nothing given is no wrong array here
            break
        with pytest.raises(priors.PriorError, match=f"^given {message}"):
            call()
    if "59" not in message:
        for call in (lambda: new.fit(array), lambda: conditional.log_prob(array, given=bits())):
            with pytest.raises(priors.PriorError, match=f"^bits {message}"):
                call()
        for name, call in (
            ("samples", lambda: two_sample_accuracy(array, bits())),
            ("held_out", lambda: two_sample_accuracy(bits(), array)),
            ("codes", lambda: nearest_distances(array, bits())),
            ("references", lambda: nearest_distances(bits(), array)),
        ):
            with pytest.raises(priors.PriorError, match=f"^{name} {message}"):
                call()
        if array is None:
            return
        with pytest.raises(priors.PriorError, match=f"^valid {message}"):
            new.fit(bits(), valid=array)
        with pytest.raises(priors.PriorError, match=f"^given_valid {message}"):
            new.fit(bits(), valid=bits(), given=bits(), given_valid=array)


def test_given_must_fit_the_prior() -> None:
    prior = priors.create("bernoulli", dim=4)
    prior.fit(bits(), given=bits(dim=3))
    with pytest.raises(priors.PriorError, match="given is missing; the prior was fitted with 3 given bits"):
        prior.log_prob(bits())
    with pytest.raises(priors.PriorError, match="given has 2 columns; expected 3"):
        prior.sample(60, given=bits(dim=2))
    with pytest.raises(priors.PriorError, match="given has 60 rows; expected 10"):
        prior.sample(10, given=bits(dim=3))


def test_hints_say_what_was_meant() -> None:
    with pytest.raises(priors.PriorError) as caught:
        priors.create("bernuli", dim=4)
    assert caught.value.hint == "did you mean 'bernoulli'?"
    with pytest.raises(priors.PriorError) as caught:
        priors.parse_options("bernoulli", {"smoting": "1"})
    assert caught.value.hint == "did you mean 'smoothing'?"


def test_options_are_read_from_strings() -> None:
    assert priors.parse_options("bernoulli", {"smoothing": "0.5"}) == {"smoothing": 0.5}
    assert priors.parse_options("bernoulli", {"smoothing": "auto"}) == {"smoothing": None}
    for text in ("half", "nan", "-1"):
        with pytest.raises(priors.PriorError, match="option 'smoothing' of the prior 'bernoulli' is"):
            priors.parse_options("bernoulli", {"smoothing": text})


def test_every_kind_describes_itself() -> None:
    for kind in priors.available():
        facts = priors.describe(kind)
        assert facts["kind"] == kind and facts["summary"]
        for type_, _, help_ in facts["options"].values():
            assert type_ and help_
    assert {"uniform", "bernoulli"} <= set(priors.automatic())
    assert "empirical" not in priors.automatic()


def test_saved_files_that_are_damaged_are_named(prior: priors.Prior, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(priors.PriorError, match=match):
            priors.load(tmp_path)

    refused("prior.json does not exist")
    prior.save(tmp_path)
    header = json.loads((tmp_path / "prior.json").read_text())
    tensors = tmp_path / header["tensors"]
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-3])
    refused(f"{tensors.name} is truncated or altered")
    tensors.unlink()
    refused(f"{tensors.name} does not exist")
    tensors.write_bytes(whole)
    for change, match in [
        ({"version": 9}, "prior.json has version 9; expected 1"),
        ({"format": "x"}, "prior.json is not a prior"),
        ({"kind": "bernuli"}, "prior.json: unknown prior 'bernuli'"),
        ({"dim": 5}, "prior.json does not describe a whole prior"),
        ({"options": {"x": 1}}, "prior.json: unknown option 'x'"),
        ({"tensors": "../x"}, "names no tensor file"),
    ]:
        (tmp_path / "prior.json").write_text(json.dumps({**header, **change}))
        refused(match)
    (tmp_path / "prior.json").write_text('{"format": "dmz-')
    refused("prior.json is not valid JSON")


def test_saving_again_replaces_at_one_moment_and_leaves_other_files(
    prior: priors.Prior, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    prior.save(tmp_path, metadata={"n": 1})
    prior.fit(bits(50))
    prior.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 and priors.load(tmp_path).metadata == {"n": 1}
    with pytest.raises(priors.PriorError, match="metadata cannot be written as JSON"):
        prior.save(tmp_path, metadata={"n": object()})


class Fine(priors.Prior):
    """A well-formed kind that is not registered."""

    kind = "fine"
    summary = "a kind of the tests"

    def _fit(self, train, valid, run):
        return {}

    def _log_prob(self, rows):
        return np.zeros(len(rows))

    def _sample(self, u, given, temperature):
        return (u < 0.5).astype(np.uint8)

    def _state(self):
        return {}

    def _load_state(self, state):
        pass


def variant(**attributes: object) -> type:
    return type("Variant", (Fine,), attributes)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (int, "int is not a subclass of priors.Prior"),
        (priors.Prior, "does not define _fit, _load_state, _log_prob, _sample, _state"),
        (variant(kind="bernoulli"), "the kind 'bernoulli' is already registered"),
        (variant(kind="Two Words"), "expected lower case without spaces"),
        (variant(kind=None), "kind is None; expected one line of text"),
        (variant(summary=""), "summary is ''; expected one line"),
        (variant(automatic=True, exact=False), "expected an exact kind that does not memorize"),
        (variant(Options=dict), "Options is not a dataclass"),
    ],
)
def test_bad_classes_are_refused_at_registration(cls: type, message: str) -> None:
    with pytest.raises(priors.PriorError, match=message):
        priors.register(cls)


def test_entry_points_are_loaded_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from priors import registry

    here = {
        "fine": (EntryPoint("fine", "tests_priors_fine:Fine", "dmz.priors"),),
        "broken": (EntryPoint("broken", "no_such_module:Kind", "dmz.priors"),),
        "twice": tuple(EntryPoint("twice", f"m{i}:Kind", "dmz.priors") for i in range(2)),
        "renamed": (EntryPoint("renamed", "tests_priors_fine:Fine", "dmz.priors"),),
    }
    import sys
    import types

    module = types.ModuleType("tests_priors_fine")
    module.Fine = Fine
    monkeypatch.setitem(sys.modules, "tests_priors_fine", module)
    monkeypatch.setattr(registry, "_entry_points", lambda: here)
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    assert set(here) <= set(priors.available()) and "broken" not in priors.automatic()
    assert priors.create("fine", dim=3).kind == "fine"
    for kind, message in [
        ("broken", "the prior 'broken' cannot be loaded from no_such_module:Kind"),
        ("twice", "comes from several packages: m0:Kind, m1:Kind"),
        ("renamed", "the entry point 'renamed' gives the kind 'fine'"),
    ]:
        with pytest.raises(priors.PriorError, match=message):
            priors.describe(kind)


def test_kinds_that_name_what_they_are_handed_run_still_fit() -> None:
    class Older(Fine):
        def _fit(self, train: priors.Rows, valid: priors.Rows, run: priors.Run) -> dict[str, object]:
            run.part(0.0, 0.5).progress(1.0, "half")
            return {"is a Run": isinstance(run, priors.Run)}

    seen: list[float] = []
    report = Older(dim=4).fit(bits(), progress=lambda done, message: seen.append(done))
    assert report.chosen == {"is a Run": True} and seen == [0.0, 0.5, 1.0]


def test_check_class_accepts_a_good_class() -> None:
    check_class(Fine)


@pytest.mark.parametrize("name", ["\0", "x" * 999, "\ud800", "a/b", "..", "", 3, None])
def test_a_saved_prior_that_names_no_file_beside_it(
    prior: priors.Prior, tmp_path: Path, name: object
) -> None:
    prior.save(tmp_path / "p")
    file = tmp_path / "p" / "prior.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tensors": name}))
    with pytest.raises(priors.PriorError):
        priors.load(tmp_path / "p")
