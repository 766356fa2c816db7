"""A sampling run: images from a prior's bits, as files, resumable and seeded per image.

A folder of samples holds ``images/000000.png`` and on, ``samples.npz`` (``images`` uint8 (N, H, W, C), ``bits``
packed), ``grid.png``, and ``samples.json``, the card that says how they were made. The card and the archive are
written last: a folder without them is unfinished, and the same run goes on with it. Several processes take the images
that are missing in turns; the main one gathers them.
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.samplers import Sampler, create, sampler_class
from dmzcli.diffusion.thresholds import PERCENTILE
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system import processes
from dmzcli.system.files import atomic, read_json, user_errors, write_json
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.png import grid, write_png
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
GRID_IMAGES = 100


@dataclass(frozen=True)
class Plan:
    """What makes a set of samples what it is; equal plans make equal images.

    Attributes:
        model: SHA-256 of the weights.
        prior: Name of the prior, or ``none`` for a model without a latent.
        prior_hash: SHA-256 of the prior's tensors.
        count: How many images.
        seed: Of bits and noise.
        sampler, steps, spacing, eta, temperature, threshold, percentile: As the commands name them.
        precision: ``no`` (float32) or ``bf16``.
    """

    model: str
    prior: str
    prior_hash: str
    count: int
    seed: int = 0
    sampler: str = "ancestral"
    steps: int = 20
    spacing: str = "uniform"
    eta: float = 0.0
    temperature: float = 1.0
    threshold: str = "clip"
    percentile: float = PERCENTILE
    precision: str = "no"

    def make_sampler(self, config: DiffusionConfig) -> Sampler:
        """The plan's sampler for a model's diffusion."""
        return create(
            self.sampler, config, self.steps, self.spacing, self.eta, self.threshold, self.percentile
        )

    def folder_name(self) -> str:
        """A readable name of the plan's own folder; its end tells weights and priors of one name apart."""
        name = f"{self.prior}-{self.sampler}-{self.steps}-n{self.count}-seed{self.seed}"
        if self.spacing != sampler_class(self.sampler).spacing:
            name += f"-{self.spacing}"
        if self.eta:
            name += f"-eta{self.eta:g}"
        if self.temperature != 1:
            name += f"-t{self.temperature:g}"
        if self.threshold != "clip":
            name += f"-{self.threshold}" + (f"{self.percentile:g}" if self.threshold == "dynamic" else "")
        if self.precision != "no":
            name += f"-{self.precision}"
        return f"{name}-{hashlib.sha256(f'{self.model} {self.prior_hash}'.encode()).hexdigest()[:6]}"


def _restored(file: Path, shape: tuple[int, ...]) -> Array | None:
    """A finished image of an earlier, interrupted call; ``None`` if it is not there."""
    if not file.exists():
        return None
    try:
        image = np.asarray(Image.open(file))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow has no one type for a damaged file
        raise UserError(
            f"{file} is not an image of this run", "delete the folder, or choose another --out"
        ) from error
    image = image.reshape(*image.shape[:2], -1)
    if image.shape != shape:
        raise UserError(f"{file} is not an image of this run", "delete the folder, or choose another --out")
    return image


def _claim(out: Path, plan: Plan, facts: dict[str, Any]) -> None:
    """Takes a folder for this plan: it is new, empty, or holds the same plan, perhaps for fewer images.

    Raises:
        UserError: It holds something else.
    """
    card = out / "plan.json"
    if card.exists():
        defaults = {field.name: field.default for field in fields(Plan) if field.default is not MISSING}
        earlier = {**defaults, **read_json(card)}  # a field that came later was at its default
        if {k: v for k, v in earlier.items() if k != "count"} != {
            k: v for k, v in facts.items() if k != "count"
        }:
            differs = min(k for k in facts if k != "count" and earlier.get(k) != facts[k])
            raise UserError(
                f"{out} holds other samples: {differs} is {earlier.get(differs)!r} there, {facts[differs]!r} here",
                "choose another --out, or delete the folder",
            )
        if earlier["count"] > plan.count:
            raise UserError(
                f"{out} holds {earlier['count']} images already, more than {plan.count}",
                f"use --count {earlier['count']}, or another --out",
            )
        if earlier["count"] < plan.count:  # until the end, the folder of more images is unfinished
            for name in ("samples.json", "samples.npz", "grid.png"):
                (out / name).unlink(missing_ok=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already and holds no samples of dmz", "choose another --out")
    write_json(card, facts)


def sample(
    model: Autoencoder,
    bits: Array | None,
    plan: Plan,
    out: Path,
    batch_size: int = 64,
    talk: Talk | None = None,
) -> Array:
    """Makes a plan's images and writes its folder.

    Arguments:
        model: In evaluation mode.
        bits: uint8 (N, D) from the plan's prior, or ``None`` for a model without a latent.
        plan: What to make.
        out: The folder.
        batch_size: Images at a time.
        talk: Who listens.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        UserError: The plan does not fit the model, the folder holds something else, the disk is full.
        Interrupted: SIGINT or SIGTERM came; finished images are kept.
    """
    talk = talk or Silence()
    sampler = plan.make_sampler(model.config.diffusion)
    if model.config.diffusion.perturbation > 0 and sampler.deterministic:
        talk.say(
            f"{plan.sampler} adds no noise, which works poorly for models trained with input perturbation; "
            "prefer --sampler ancestral"
        )
    folder = out / "images"
    if processes.main():
        _claim(out, plan, asdict(plan))
        with user_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    processes.wait()
    channels, height, width = model.shape
    files = [folder / f"{i:06d}.png" for i in range(plan.count)]
    images = np.empty((plan.count, height, width, channels), np.uint8)
    missing = []
    for i, file in enumerate(files):
        restored = _restored(file, images.shape[1:])
        if restored is None:
            missing.append(i)
        else:
            images[i] = restored
    if len(missing) < plan.count:
        talk.say(f"{plan.count - len(missing):,} of {plan.count:,} images are there already")
    if bits is not None:  # one draw: on other processors its rounding may be another
        bits = processes.from_main(torch.from_numpy(np.array(bits))).numpy()
    processes.wait()  # until all have seen what was there before
    own = missing[processes.rank() :: processes.ranks()]
    with collected() as signals, talk.task("sampling", plan.count, plan.count - len(missing)) as advance:
        for start in range(0, len(own), batch_size):
            part = own[start : start + batch_size]
            codes = None if bits is None else bits[part]
            made = decode(model, codes, sampler, part, plan.seed, batch_size, precision=plan.precision)
            images[part] = made
            for i, image in zip(part, made, strict=True):
                write_png(files[i], image)
            advance(plan.count - len(missing) + processes.ranks() * (start + len(part)), "")
            if signals:
                break
        heard = int(processes.largest(signals[0] if signals else 0)[0])
        if heard:
            raise Interrupted(heard, "finished images are kept; run the same command to go on")
    for i in sorted(set(missing) - set(own)):
        made_elsewhere = _restored(files[i], images.shape[1:])
        if made_elsewhere is None:
            raise UserError(
                f"{files[i]} is not there, though another process wrote it",
                "the folder must be one that all machines share",
            )
        images[i] = made_elsewhere
    if processes.main():
        _finish(out, plan, images, bits)
    processes.wait()
    return images


def _finish(out: Path, plan: Plan, images: Array, bits: Array | None) -> None:
    """Writes what makes a folder of samples whole; the card is the last."""
    write_png(out / "grid.png", grid(images[:GRID_IMAGES]))
    with atomic(out / "samples.npz") as temporary, temporary.open("wb") as stream:
        arrays = {"images": images}
        if bits is not None:
            arrays["bits"] = np.packbits(bits, axis=1, bitorder="big")
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    size, channels = images.shape[2:]
    write_json(out / "samples.json", {**asdict(plan), "size": size, "channels": channels, "encoding": "png"})
