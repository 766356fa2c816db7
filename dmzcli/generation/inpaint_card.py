"""Inpaintings of one picture as a folder: the draws, a grid, and a card that says how they were made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.codes.draw import draw_bits
from dmzcli.codes.encode import bits_of
from dmzcli.generation.inpaint import inpaint, nearest_codes, sheet_of
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.system.files import write_json
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.png import write_png
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray


@dataclass(frozen=True)
class Wish:
    """What is drawn.

    Attributes:
        count: Draws.
        bits: ``image`` or ``prior``: where the codes are from.
        prior: The prior by kind or folder; ``None`` for the newest.
        candidates: Codes of the prior a draw, of which the nearest to the known part is taken.
        resample: How often each step is taken.
        seed: Seed of codes and noise.
    """

    count: int = 4
    bits: str = "image"
    prior: str | None = None
    candidates: int = 1
    resample: int = 5
    seed: int = 0


def inpaint_run(
    run: Run,
    model: Autoencoder,
    image: Array,
    known: Array,
    name: str,
    wish: Wish,
    recipe: Recipe,
    batch_size: int | None = None,
    out: Path | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Draws the unknown part of a picture, writes the folder, and gives the card.

    Arguments:
        run: The model's run.
        model: The autoencoder, in evaluation mode.
        image, known: uint8 (H, W, C) and bool (H, W), see :func:`~dmzcli.generation.inpaint.read_with_gap`.
        name: The picture's name.
        wish: What is drawn.
        recipe: How; its spacing resolved.
        batch_size: Draws at a time; ``None`` for what suits the device.
        out: The folder; by default in the run's ``inpainted/``.
        talk: Receives progress.

    Raises:
        UserError: There is no such prior, or it is of other bits.
    """
    talk, own = talk or Silence(), bits_of(model, image[None])
    drawn_from: dict[str, Any] | None = None
    if wish.bits == "image":
        bits = own.repeat(wish.count, 0)
    else:
        drawn = draw_bits(run, model.dim, wish.prior, wish.count * wish.candidates, wish.seed)
        assert drawn.bits is not None
        codes = drawn.bits.reshape(wish.count, wish.candidates, -1)
        chosen = nearest_codes(model, image, known, codes, recipe, wish.seed, batch_size)
        bits = codes[np.arange(wish.count), chosen]
        drawn_from = {"name": drawn.name, "sha256": drawn.sha256, "chosen": chosen.tolist()}
    with talk.task("inpainting", wish.count) as advance:
        draws = inpaint(
            *(model, image, known, bits, recipe, wish.seed, wish.resample, batch_size),
            done=lambda count: advance(count, ""),
        )
    error = ((draws.astype(np.float64) - image) / 255)[:, ~known]
    facts: dict[str, Any] = {
        "format": "dmz-inpaintings",
        "version": 1,
        "run": str(run.path),
        "weights": run.weights_hash,
        "image": name,
        "sha256": hashlib.sha256(image.tobytes() + known.tobytes()).hexdigest(),
        **vars(wish),
        "prior": drawn_from,
        "sampling": recipe.facts(),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:6]
    folder = out or run.path / "inpainted" / f"{Path(name).stem}-{digest}"
    card, grid = folder / "card.json", folder / "grid.png"
    facts |= {
        "known_share": float(known.mean()),
        "own_bits_kept": (bits == own).mean(1).tolist(),
        "drawn_rms": np.sqrt(np.square(error).mean((1, 2))).tolist(),
        "folder": str(folder),
        "card": str(card),
        "grid": str(grid),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with hold(card, patience=WHILE):
        for i, draw in enumerate(draws):
            write_png(folder / "images" / f"{i:06d}.png", draw)
        write_png(grid, sheet_of(image, known, draws, name))
        write_json(card, facts)
    return facts
