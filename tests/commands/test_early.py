"""Mistakes in the words of a command are told before anything heavy is imported and before any work is begun."""

import json

import pytest

from dmzcli.diffusion import names
from dmzcli.diffusion.samplers import SAMPLERS
from dmzcli.diffusion.spacings import SPACINGS
from dmzcli.errors import UserError
from dmzcli.evaluation import limits
from dmzcli.generation.recipe import Recipe

EARLY = [
    ("evaluate", "--prior", "nope"),
    ("evaluate", "--reconstructions"),
    ("reconstruct", "--split", "tset"),
    ("reconstruct", "--out", "card.png"),
    ("reconstruct", "--run", "nope"),
    ("reconstruct", "a.png", "--split", "test"),
    ("reconstruct", "--fit", "crop"),
    ("reconstruct", "--no-invert", "--invert-steps", "4"),
    ("reconstruct", "--draws", "0"),
    ("interpolate", "a.png"),
    ("interpolate", "a.png", "b.png", "c.png"),
    ("interpolate", "a.png", "b.png", "--pairs", "1:2"),
    ("interpolate", "--order", "greeedy"),
    ("interpolate", "--order", ","),
    ("interpolate", "--pairs", "7"),
    ("interpolate", "--pairs", "7:x"),
    ("interpolate", "--pairs", "7:9", "-n", "3"),
    ("interpolate", "--split", "tset"),
    ("interpolate", "--frames", "2"),
    ("interpolate", "--run", "nope"),
    ("interpolate", "--weights", "nofile"),
    ("evaluate", "--metrics", "fad"),
    ("evaluate", "--split", "tset"),
    ("evaluate", "--count", "3"),
    ("evaluate", "--weights", "nofile"),
    ("evaluate", "nothere", "--against", "digits"),
    ("evaluate", "--device", "gpu"),
    ("evaluate", "--against", "digits", "--set", "data.size=1"),
    ("sample", "nope"),
    ("sample", "--sampler", "ddmi"),
    ("sample", "--spacing", "even"),
    ("sample", "--threshold", "hard"),
    ("sample", "--precision", "half"),
    ("sample", "--eta", "-1"),
    ("sample", "--temperature", "nan"),
    ("sample", "--seed", str(2**64)),
    ("sample", "--count", str(2**70)),
    ("likelihood", "--prior", "nope"),
    ("likelihood", "--split", "tset"),
    ("fit-prior", "--kind", "mixtur"),
    ("fit-prior", "--kind", "bernoulli", "--set", "smoothin=1"),
    ("compare-priors", "--kind", "mixtur"),
    ("compare-priors", "--run", "runs/tiny", "--count", "3"),
    ("sweep-steps", "--samplers", "ddmi"),
    ("sweep-steps", "--prior", "nope"),
    ("sweep-steps", "--steps", "few"),
    ("encode", "--mode", "mean"),
    ("encode", "--run", "nope"),
    ("import-weights", "nope"),
    ("import-weights", "runs/tiny/model.safetensors"),
    ("import-weights", "runs/tiny", "--attention-order", "by-hand"),
    ("import-weights", "runs/tiny", "--heads", "2", "--head-channels", "4"),
    ("train", "--set", "model.bitts=3"),
    ("train", "--preset", "digit"),
    ("train", "nothere"),
    ("probe", "nope"),
    ("report", "nope"),
    ("search",),
    ("search", "--row", "1", "--split", "tset"),
    ("search", "--row", "1", "--engine", "annoy"),
    ("search", "x.png", "--run", "nope"),
    ("inspect", "nope"),
    ("inspect", "--run", "nope"),
    ("cache", "--days", "nan"),
    ("info", "nope"),
    ("data", "show", "nope"),
]


def test_no_mistake_of_words_waits_for_torch(python, pristine):
    """All of them in one process, which never imports torch: a second is long for any of them then."""
    program = f"""
import contextlib, io, os, sys
os.chdir({str(pristine)!r})
from dmzcli.__main__ import main
for arguments in {EARLY!r}:
    sys.argv = ["dmz", *arguments]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        main()
    lines = said.getvalue().splitlines()
    if len(lines) != 2 or not lines[0].startswith("error: ") or not lines[1].startswith("hint: "):
        print(arguments, lines)
    if "torch" in sys.modules:
        print("torch:", arguments)
        break
"""
    assert python(program) == ""


def test_the_names_are_those_of_the_code():
    assert sorted(names.SAMPLERS) == sorted(SAMPLERS.entries)
    assert sorted(names.SPACINGS) == sorted(SPACINGS.entries)
    from dmzcli.data import SPLITS
    from dmzcli.system.precision import PRECISIONS

    assert limits.SPLITS == SPLITS
    for precision in PRECISIONS:
        Recipe(precision=precision).check()


@pytest.mark.parametrize(
    "field", [{"sampler": "x"}, {"spacing": "x"}, {"threshold": "x"}, {"precision": "x"}]
)
def test_a_recipe_of_wrong_names(field):
    with pytest.raises(UserError, match=r"^unknown ") as caught:
        Recipe(**field).check()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sample", "--count", "0"), "'--count' / '-n': expected at least 1"),
        (("sample", "--count", str(2**70)), "expected at most 10,000,000"),
        (("sample", "--seed", "-1"), "'--seed': expected at least 0"),
        (("sample", "--seed", "1.5"), "'--seed': expected a whole number"),
        (("sample", "--temperature", "cold"), "'--temperature': expected a number"),
        (("sample", "--temperature", "0"), "'--temperature': expected at least 1e-06"),
        (("train", "--max-hours", "inf"), "'--max-hours': inf is no finite number"),
        (("train", "--bits", "65537"), "'--bits': expected at most 65,536"),
    ],
)
def test_bounds_are_told_in_our_own_words(dmz, arguments, says):
    error, _ = dmz(*arguments).mistake()
    assert says in error and "Input should" not in error


def test_the_parsers_other_wording():
    """Of earlier versions of Typer, whose parser is Click."""
    from dmzcli.commands.usage import _in_words

    assert _in_words("v '--n': 0 is not in the range x>=1") == "v '--n': 0: expected at least 1"
    assert _in_words("v '--n': 9000 is not in the range 1<=x<=1000") == "v '--n': 9000: expected 1 to 1,000"
    assert _in_words("v '--n': 2.5 is not in the range x<=1.5") == "v '--n': 2.5: expected at most 1.5"
    assert _in_words("no such option: --n") == "no such option: --n"


def test_nothing_is_announced_that_does_not_begin(dmz, workshop):
    assert "fitting" not in dmz("fit-prior", "--kind", "mixtur").err
    assert "fitting" not in dmz("fit-prior", "--kind", "bernoulli", "--set", "smoothing=x").err


def test_the_settings_listed_are_those_of_the_preset_asked_for(dmz):
    assert "model.channels = 128 (64)" in dmz("train", "--settings", "--preset", "cifar10").out
    assert "model.channels = 128 (64)" in dmz("train", "cifar10", "--settings").out
    assert "model.channels = 64 " in dmz("train", "--settings").out
    dmz("train", "--settings", "--preset", "cifar").mistake()


@pytest.mark.parametrize("command", [("sample",), ("evaluate",)])
@pytest.mark.parametrize("option", [("--temperature", "0.5"), ("--prior", "bernoulli")])
def test_a_plain_model_has_no_prior_to_warm(dmz, run, command, option):
    """The shared run's settings, said to be of latent none: its weights are never looked at."""
    tree = json.loads(run.settings.read_text())
    tree["model"]["latent"] = "none"
    run.settings.write_text(json.dumps(tree))
    words = option[1:] if (command, option[0]) == (("sample",), "--prior") else option
    error, hint = dmz(*command, *words, "--run", run.path).mistake()
    assert "a model with latent 'none'" in error and hint.startswith("hint: leave ")
