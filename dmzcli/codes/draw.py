"""Codes to decode, drawn from a run's prior."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmzcli.codes.find import find_prior, load_prior
from dmzcli.codes.given import given_draws, given_suffix
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.system.files import sha256

Array = np.ndarray


@dataclass(frozen=True)
class Codes:
    """Bits to decode, and where they are from.

    Attributes:
        bits: uint8 (N, D), or ``None`` for a model without a latent.
        name: The prior's kind and what it is given, or ``none``.
        sha256: SHA-256 of the prior's tensors, and of the other bits that it is given, if any.
    """

    bits: Array | None
    name: str
    sha256: str


def check_plain(prior: str | None, temperature: float = 1.0, given: Path | None = None) -> None:
    """Raises UserError where something is asked for that only models with bits have."""
    if given is not None:
        raise UserError("a model with latent 'none' is given nothing", "leave --given out")
    if prior is not None:
        raise UserError(f"a model with latent 'none' takes no prior, but '{prior}' was given", "leave it out")
    if temperature != 1:
        raise UserError(
            "a model with latent 'none' has no prior of any temperature", "leave --temperature out"
        )


def draw_bits(
    run: Run,
    dim: int,
    prior: str | None,
    count: int,
    seed: int,
    temperature: float = 1.0,
    given: Path | None = None,
) -> Codes:
    """Draws codes from a run's prior; fewer codes are a prefix of more.

    Arguments:
        run: The prior's run.
        dim: The model's D; 0 without a latent.
        prior: A kind, a folder, or ``None`` for the newest.
        count: Number of codes.
        seed: Seed of the draw.
        temperature: Temperature of the prior.
        given: A bit table to condition on, instead of the one that the prior was fitted with.

    Raises:
        UserError: There is no such prior, it is of another model, or what it is given is missing or does not fit.
    """
    if dim == 0:
        check_plain(prior, temperature, given)
        return Codes(None, "none", "")
    folder = find_prior(run, prior)
    fitted = load_prior(folder, run, dim)
    conditions, digest = given_draws(fitted, count, given)
    bits = fitted.sample(count, seed=seed, given=conditions, temperature=temperature)
    # The tensors alone: prior.json holds how long the fit took.
    digests = [sha256(file) for file in sorted(folder.glob("*.safetensors"))]
    return Codes(
        bits, fitted.kind + given_suffix(fitted), " ".join([*digests, digest] if digest else digests)
    )
