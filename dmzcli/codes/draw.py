"""Codes to decode, drawn from a run's prior."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dmzcli.codes.find import find_prior, load_prior, newest_by_class
from dmzcli.codes.given import Conditions, given_draws, given_suffix
from dmzcli.config import Config
from dmzcli.errors import UserError
from dmzcli.runs import Run

Array = np.ndarray


@dataclass(frozen=True)
class Codes:
    """Bits to decode, and where they are from.

    Attributes:
        bits: uint8 (N, D), or ``None`` for a model without a latent.
        name: The prior's kind and what it is given, or ``none``.
        sha256: SHA-256 of the prior's tensors, of the other bits that it is given, if any, and the classes, if chosen.
        conditions: What each code is conditioned on.
    """

    bits: Array | None
    name: str
    sha256: str
    conditions: Conditions = field(default_factory=Conditions)


def check_plain(
    prior: str | None, temperature: float = 1.0, given: Path | None = None, classes: Sequence[str] = ()
) -> None:
    """Raises UserError where something is asked for that only models with bits have."""
    if given is not None:
        raise UserError("a model with latent 'none' is given nothing", "leave --given out")
    if prior is not None:
        raise UserError(f"a model with latent 'none' takes no prior, but '{prior}' was given", "leave it out")
    if temperature != 1:
        raise UserError(
            "a model with latent 'none' has no prior of any temperature", "leave --temperature out"
        )
    if classes:
        raise UserError("a model with latent 'none' knows no classes", "leave --class out")


def draw_bits(
    run: Run,
    dim: int,
    prior: str | None,
    count: int,
    seed: int,
    temperature: float = 1.0,
    given: Path | None = None,
    classes: Sequence[str] = (),
    prefix: int | None = None,
) -> Codes:
    """Draws codes from a run's prior; fewer codes are a prefix of more.

    Of a model of nested bits the prior may be one of their first; those that it does not draw are absent.

    Arguments:
        run: The prior's run.
        dim: The model's D; 0 without a latent.
        prior: A kind, a folder, or ``None`` for the newest; with ``classes``, the newest that is given labels.
        count: Number of codes.
        seed: Seed of the draw.
        temperature: Temperature of the prior.
        given: A bit table to condition on, instead of the one that the prior was fitted with.
        classes: Names or numbers of the classes to condition on, in turn; by default all.
        prefix: Number of bits that are kept, of nested ones; by default all that the prior draws.

    Raises:
        UserError: There is no such prior, it is of another model, or what it is given is missing or does not fit; or
            the bits are not nested, or fewer than ``prefix``.
    """
    if dim == 0:
        check_plain(prior, temperature, given, classes)
        if prefix is not None:
            check_prefix(run.config, prefix, dim)
        return Codes(None, "none", "")
    if prefix is not None:
        check_prefix(run.config, prefix, dim)
    folder = (newest_by_class(run) if classes and prior is None else None) or find_prior(run, prior)
    fitted = load_prior(folder, run, dim, shorter=True)
    if prefix is not None and prefix > fitted.dim:
        raise UserError(
            f"{folder} draws {fitted.dim} bits, fewer than --prefix {prefix}",
            "leave --prefix out, or name another prior",
        )
    conditions = given_draws(fitted, count, given, classes)
    bits = fitted.sample(count, seed=seed, given=conditions.bits, temperature=temperature)
    # Of the tensors alone: prior.json holds how long the fit took.
    assert fitted.sha256 is not None
    digests = [fitted.sha256] if fitted.law == 1 else [fitted.sha256, f"law {fitted.law}"]
    if conditions.digest:
        digests.append(conditions.digest)
    if conditions.chosen:
        digests.append(f"classes {json.dumps(conditions.chosen)}")
    name = fitted.kind + given_suffix(fitted)
    kept = prefix or fitted.dim
    if kept < dim:
        name += f"-prefix-{kept}"
        digests.append(f"prefix {kept}")
        bits = with_absent(bits[:, :kept], dim)
    return Codes(bits, name, " ".join(digests), conditions)


def check_prefix(config: Config, prefix: int, dim: int) -> None:
    """Raises UserError unless a model can do with so many of its bits."""
    if not config.model.nested:
        raise UserError(
            "--prefix needs a model whose bits are nested, and this one's are not",
            "train one with --set model.nested=true, or leave --prefix out",
        )
    if not 1 <= prefix <= dim:
        raise UserError(
            f"--prefix {prefix} is not from 1 to the model's {dim} bits", "name as many as are to be kept"
        )
    if prefix % (width := config.model.variable_bits):
        raise UserError(f"--prefix {prefix} cuts a variable of {width} bits", "end it after a whole variable")


def with_absent(bits: Array, dim: int) -> Array:
    """Codes of the first bits as those of all, the others absent: uint8 (N, dim)."""
    from dmzcli.model.latents import ABSENT  # brings torch, which a mistake need not wait for

    whole = np.full((len(bits), dim), ABSENT, np.uint8)
    whole[:, : bits.shape[1]] = bits
    return whole
