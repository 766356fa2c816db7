"""A folder of translations, resumable and seeded per image: for every input n images of the other side.

It holds ``images/000012-0.png`` (input 12, draw 0), ``translations.npz`` (``images`` uint8 (N, n, H, W, C), ``inputs``,
``index``, ``bits`` packed, and ``names`` and ``targets`` where they are known), ``grid.png``, and the card
``translations.json``. The card is written last: a folder without it is unfinished, and the same command goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.data.crops import with_channels
from dmzcli.data.dataset import spread
from dmzcli.data.formats.picture import decode as decode_picture
from dmzcli.errors import UserError
from dmzcli.generation.inputs import Inputs
from dmzcli.generation.marks import safe
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.translate import Translator
from dmzcli.system.files import atomic, read_json, user_errors, write_json
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold, leftover
from dmzcli.system.png import LINE, to_pil, write_png
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.reading import read_bytes
from dmzcli.version import __version__

Array = np.ndarray
PLAN = "translations-plan.json"
"""What a folder is to hold: there from the beginning."""
GRID_ROWS = 16
GRID_DRAWS = 8


@dataclass(frozen=True, eq=False)
class Translations:
    """Images of the other side.

    Attributes:
        images: uint8 (N, n, H, W, C).
        inputs: What they are of.
        folder: Where they lie.
        facts: The card.
    """

    images: Array
    inputs: Inputs
    folder: Path
    facts: dict[str, Any]


def translate(
    translator: Translator,
    inputs: Inputs,
    n: int,
    recipe: Recipe,
    seed: int = 0,
    temperature: float = 1.0,
    out: Path | None = None,
    batch_size: int | None = None,
    talk: Talk | None = None,
) -> Translations:
    """Translates inputs into a folder, or finds what is there already.

    Arguments:
        translator: The pair and its map.
        inputs: What to translate.
        n: Draws of each.
        recipe: How bits are decoded.
        seed: Seed of bits and noise.
        temperature: Temperature of the map.
        out: The folder; by default one in ``translations/`` of the target's run, named after what is in it.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Receives progress and remarks.

    Raises:
        UserError: The inputs do not fit the model, the folder holds something else, or another command writes it.
        Interrupted: SIGINT or SIGTERM came; finished images are kept.
    """
    talk, recipe = talk or Silence(), translator.recipe(recipe)
    translator.check(inputs.images)
    plan = {
        **translator.facts(),
        "inputs": inputs.identity,
        "split": inputs.split,
        "n_inputs": len(inputs),
        "inputs_sha256": hashlib.sha256(np.ascontiguousarray(inputs.images).data).hexdigest(),
        "draws": n,
        "seed": seed,
        "temperature": temperature,
        "sampling": recipe.facts(),
    }
    folder = out or translator.target.path / "translations" / _name(plan, inputs)
    talk.say(f"translating {len(inputs):,} images {n} times each with {translator.folder} into {folder}")
    _check_free(folder, plan)
    with hold(folder, folder=True):
        images, bits = _make(translator, inputs, plan, recipe, folder, batch_size, talk)
        facts = _finish(folder, plan, inputs, images, bits)
    return Translations(images, inputs, folder, facts)


def _name(plan: dict[str, Any], inputs: Inputs) -> str:
    """A readable name of a folder; its end tells apart what has one name."""
    how, digest = plan["sampling"], hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:6]
    parts = [safe(inputs.name), *([inputs.split] if inputs.split else []), plan["map"]]
    parts += [how["sampler"], str(how["steps"]), f"n{plan['draws']}", f"seed{plan['seed']}", digest]
    return "-".join(parts)


def _check_free(folder: Path, plan: dict[str, Any]) -> None:
    """Raises UserError where a folder holds other things than these translations."""
    if not folder.exists():
        return
    card = folder / PLAN
    if card.exists():
        there = read_json(card)
        other = sorted(name for name in plan if there.get(name) != json.loads(json.dumps(plan[name])))
        if other:
            name = other[0]
            raise UserError(
                f"{folder} holds other translations: {name} is {there.get(name)!r} there, {plan[name]!r} here",
                "choose another --out, or delete the folder",
            )
    elif not folder.is_dir() or not all(leftover(file.name) for file in folder.iterdir()):
        raise UserError(f"{folder} is there already and holds no translations of dmz", "choose another --out")


def _make(
    translator: Translator,
    inputs: Inputs,
    plan: dict[str, Any],
    recipe: Recipe,
    folder: Path,
    batch_size: int | None,
    talk: Talk,
) -> tuple[Array, Array]:
    """The images (N, n, H, W, C) and their bits (N, n, D); those that are there already are read."""
    write_json(folder / PLAN, plan)
    with user_errors(folder):
        (folder / "images").mkdir(exist_ok=True)
    channels, height, width = translator.decoder.shape
    n, count, seed = plan["draws"], len(inputs), plan["seed"]
    images = np.empty((count, n, height, width, channels), np.uint8)
    bits = np.empty((count, n, translator.decoder.dim), np.uint8)
    batch, done = batch_size or 64, 0
    with collected() as signals, talk.task("translating", count * n) as advance:
        for draw in range(n):
            bits[:, draw] = translator.draw(inputs.images, draw, seed, plan["temperature"])
            files = [folder / "images" / f"{row:06d}-{draw}.png" for row in range(count)]
            for start in range(0, count, batch):
                rows = range(start, min(start + batch, count))
                there = [_restored(files[row], images.shape[2:]) for row in rows]
                missing = [row for row, image in zip(rows, there, strict=True) if image is None]
                for row, image in zip(rows, there, strict=True):
                    if image is not None:
                        images[row, draw] = image
                if missing:
                    made = translator.images(bits[missing, draw], missing, draw, recipe, seed, batch_size)
                    for row, image in zip(missing, made, strict=True):
                        images[row, draw] = image
                        write_png(files[row], image)
                done += len(rows)
                advance(done, "")
                if signals:
                    raise Interrupted(signals[0], "finished images are kept; run the same command to go on")
    return images, bits


def _restored(file: Path, shape: tuple[int, ...]) -> Array | None:
    """An image that an earlier call finished; ``None`` if it is not there."""
    if not file.exists():
        return None
    try:
        image, _ = decode_picture(read_bytes(file), str(file))
    except UserError as error:
        raise UserError(f"{file} is damaged", "delete it, or choose another --out") from error
    if image.shape != shape:
        raise UserError(f"{file} is no image of this command", "delete the folder, or choose another --out")
    return image


def _finish(folder: Path, plan: dict[str, Any], inputs: Inputs, images: Array, bits: Array) -> dict[str, Any]:
    """Writes what makes the folder whole; the card is the last."""
    write_png(folder / "grid.png", translation_grid(inputs.images, images, inputs.targets))
    with atomic(folder / "translations.npz") as temporary, temporary.open("wb") as stream:
        columns: dict[str, Any] = {
            "images": images,
            "inputs": np.asarray(inputs.images),
            "index": inputs.index,
        }
        columns["bits"] = np.packbits(bits, axis=2, bitorder="big")
        if inputs.names is not None:
            columns["names"] = np.array(inputs.names, np.str_)
        if inputs.targets is not None:
            columns["targets"] = inputs.targets
        np.savez(stream, **columns)
    facts = {
        "format": "dmz-translations",
        "version": 1,
        **plan,
        "targets": inputs.targets is not None,
        "dmz": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(folder / "translations.json", facts)
    return facts


def translation_grid(
    inputs: Array, outputs: Array, targets: Array | None = None, names: Sequence[str] = ()
) -> Array:
    """A row for each of some inputs: the input, its translations, and its target where that is known.

    Arguments:
        inputs: uint8 (N, H, W, C).
        outputs: uint8 (N, n, H′, W′, C′).
        targets: uint8 (N, H′, W′, C′), or ``None``.
        names: Of the outputs' columns; by default their numbers.

    Returns:
        uint8 (…, …, 3).
    """
    from PIL import Image, ImageDraw

    rows = spread(np.arange(len(inputs)), GRID_ROWS)
    shown = outputs[rows, :GRID_DRAWS]
    columns = [
        ("input", inputs[rows]),
        *((names[j] if names else str(j + 1), shown[:, j]) for j in range(shown.shape[1])),
    ]
    columns += [] if targets is None else [("target", targets[rows])]
    side = max(max(images.shape[1:3]) for _, images in columns)
    side *= max(1, math.ceil(48 / side))
    step, top, apart = side + 4, LINE + 2, 8
    lasts = 1 if targets is None else 2
    page = Image.new("RGB", (step * len(columns) + apart * lasts, top + step * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for number, (name, images) in enumerate(columns):
        left = step * number + apart * ((number > 0) + (targets is not None and number == len(columns) - 1))
        draw.text((left + 2, 2), name, fill="black")
        for row, image in enumerate(images):
            tile = to_pil(with_channels(np.ascontiguousarray(image), 3))
            scale = side // max(tile.size)
            tile = tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
            page.paste(tile, (left, top + step * row))
    return np.asarray(page)
