"""Other bits under an image's own noise."""

import json
from pathlib import Path

import numpy as np
import pytest

from dmzcli.codes.encode import bits_of
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode, invert
from dmzcli.generation.edit import check_invertible, redecode
from dmzcli.generation.recipe import Recipe
from dmzcli.runs import Run


def test_it_is_an_inversion_with_own_bits_and_a_decoding_with_others(model, digits):
    images = digits.images[:6]
    bits = bits_of(model, images)
    recipe = Recipe("ddim", 10)
    sampler = recipe.create(model.config.diffusion)
    start = invert(model, images, bits, sampler)
    plain, other = redecode(model, images, bits, (bits, 1 - bits), recipe)
    for made, codes in ((plain, bits), (other, 1 - bits)):
        assert (made == decode(model, codes, sampler, range(6), 0, start=start)).all()
    assert (plain != other).any()


def test_an_image_is_edited_by_itself(model, digits):
    """Batches change sums in the last digits of float32, and rounding to 256 levels lets at most one level through."""
    images = digits.images[:5]
    bits = bits_of(model, images)
    recipe = Recipe("ddim", 10)
    (whole,) = redecode(model, images, bits, [1 - bits], recipe, batch_size=5)
    (parts,) = redecode(model, images, bits, [1 - bits], recipe, batch_size=2)
    assert np.abs(whole.astype(int) - parts).max() <= 1


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        (
            "diffusion",
            {"perturbation": 0.1},
            "was trained with input perturbation 0.1, whose images DDIM cannot invert",
        ),
        ("model", {"latent": "none"}, "has latent 'none', and so no bits"),
    ],
)
def test_runs_without_an_inverse_are_refused(run, section, changes, message):
    check_invertible(run)
    config = json.loads(Path("runs/tiny/config.json").read_text())
    config[section] |= changes
    Path("runs/tiny/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        check_invertible(Run(Path("runs/tiny")))
