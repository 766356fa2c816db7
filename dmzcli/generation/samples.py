"""A sampling run: images from a prior's bits, as files, resumable and seeded per image.

A folder of samples holds ``images/000000.png`` and on, ``samples.npz`` (``images`` uint8 (N, H, W, C), ``bits``
packed), ``grid.png``, and ``samples.json``, the card that says how they were made. Images of classes, or of other
images' bits, say of which in their file names and in the archive (:mod:`dmzcli.generation.marks`). The card and the
archive are written last: a folder without them is unfinished, and the same run goes on with it. Several processes take
the images that are missing in turns; the main one gathers them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.codes.draw import draw_bits
from dmzcli.codes.find import owner_of
from dmzcli.codes.given import Conditions
from dmzcli.data.formats.picture import decode as decode_picture
from dmzcli.diffusion.samplers import Sampler
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.guidance import Guidance
from dmzcli.generation.marks import arrays, file_names, labelled_grid, repetition, safe
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.latents import ABSENT
from dmzcli.runs import Run
from dmzcli.system import processes
from dmzcli.system.files import atomic, read_json, user_errors, write_json
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold_together, leftover
from dmzcli.system.png import write_png
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.reading import read_bytes

Array = np.ndarray
LONGEST = 60
"""Letters of the classes' names in a folder's, at most."""
EARLIEST = Recipe(spacing="uniform")
"""What a ``plan.json`` from before a field existed means by its absence."""
UNNAMED = {"ddim": "ddim", "dpm++": "leading", "unipc": "leading"}
"""The spacings that folder names leave out, else ``uniform``: the first defaults, whatever is the default today."""


@dataclass(frozen=True)
class Samples:
    """What makes a set of samples what it is: equal ones hold equal images.

    Attributes:
        model: SHA-256 of the weights.
        prior: Name of the prior, or ``none`` for a model without a latent.
        prior_hash: SHA-256 of the prior's tensors.
        count: Number of images.
        recipe: The recipe of the images, with its spacing chosen.
        seed: Seed of bits and noise.
        temperature: Temperature of the prior.
        classes: Names of the classes that were chosen; none where all come in turn, or there are none.
    """

    model: str
    prior: str
    prior_hash: str
    count: int
    recipe: Recipe
    seed: int = 0
    temperature: float = 1.0
    classes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """As JSON, in the order of every ``plan.json``."""
        recipe = self.recipe.facts()
        last = {name: recipe.pop(name) for name in ("threshold", "percentile", "precision")}
        apart = ("recipe", "temperature", "classes")
        own = {name: value for name, value in vars(self).items() if name not in apart}
        chosen = {"classes": list(self.classes)} if self.classes else {}
        return {**own, **recipe, "temperature": self.temperature, **last, **chosen}

    def folder_name(self) -> str:
        """A readable name of their own folder; its end tells weights and priors of one name apart."""
        how = self.recipe
        of = "".join(f"-{safe(name)}" for name in self.classes)
        if len(of) > LONGEST:
            of = f"-{len(self.classes)}-classes-{hashlib.sha256(of.encode()).hexdigest()[:6]}"
        name = f"{self.prior}{of}-{how.sampler}-{how.steps}-n{self.count}-seed{self.seed}"
        if how.spacing != UNNAMED.get(how.sampler, "uniform"):
            name += f"-{how.spacing}"
        if how.eta:
            name += f"-eta{how.eta:g}"
        if self.temperature != 1:
            name += f"-t{self.temperature:g}"
        if how.threshold != "clip":
            name += f"-{how.threshold}" + (f"{how.percentile:g}" if how.threshold == "dynamic" else "")
        if how.precision != "no":
            name += f"-{how.precision}"
        if how.guidance != 1:
            interval = how.guidance_interval
            name += f"-w{how.guidance:g}" + (f"-at-{interval.replace(',', '-')}" if interval else "")
        tuned = "" if how.timesteps is None else f" {list(how.timesteps)}"
        return f"{name}-{hashlib.sha256(f'{self.model} {self.prior_hash}{tuned}'.encode()).hexdigest()[:6]}"


def _restored(file: Path, shape: tuple[int, ...]) -> Array | None:
    """A finished image of an earlier, interrupted call; ``None`` if it is not there."""
    if not file.exists():
        return None
    try:
        image, _ = decode_picture(read_bytes(file), str(file))
    except UserError as error:
        raise UserError(
            f"{file} is not an image of this run", "delete the folder, or choose another --out"
        ) from error
    if image.shape != shape:
        raise UserError(f"{file} is not an image of this run", "delete the folder, or choose another --out")
    return image


def _claim(out: Path, samples: Samples) -> None:
    """Takes a folder for these samples: it is new, empty, or holds the same, perhaps fewer images of them.

    Raises:
        UserError: It holds something else.
    """
    card, facts = out / "plan.json", samples.facts()
    guided = {"guidance": 1.0, "guidance_interval": None}
    if card.exists():
        earlier = {**Samples("", "", "", 0, EARLIEST).facts(), **read_json(card)}
        foreign = sorted(earlier.keys() - facts.keys() - {"classes", "law", "timesteps", "tuned_by", *guided})
        if foreign or not isinstance(earlier["count"], int):
            what = f"it has {foreign[0]}" if foreign else "its count is no number"
            raise UserError(
                f"{card} is damaged, or of a newer version of dmz: {what}",
                "update dmz, or choose another --out",
            )
        names = {*facts, *({"classes"} & earlier.keys())} - {"count", "tuned_by"}
        if earlier.get("law", 1) != facts.get("law", 1):
            raise UserError(
                f"{out} holds images of an earlier {samples.recipe.sampler}, which makes others today",
                "choose another --out, or delete the folder",
            )
        earlier, facts_of = {**guided, **earlier}, {**guided, **facts}
        differing = sorted(name for name in names | guided.keys() if earlier.get(name) != facts_of.get(name))
        if differing:
            name = differing[0]
            raise UserError(
                f"{out} holds other samples: {name} is {earlier.get(name)!r} there, {facts_of.get(name)!r} here",
                "choose another --out, or delete the folder",
            )
        if earlier["count"] > samples.count:
            raise UserError(
                f"{out} holds {earlier['count']} images already, more than {samples.count}",
                f"use --count {earlier['count']}, or another --out",
            )
        if earlier["count"] < samples.count:  # until the end, the folder of more images is unfinished
            for name in ("samples.json", "samples.npz", "grid.png"):
                (out / name).unlink(missing_ok=True)
    else:
        _check_free(out)
    write_json(card, facts)


def _check_free(out: Path) -> None:
    """Raises UserError where a folder without a plan holds anything but what a killed call has left."""
    if out.exists() and not (
        out.is_dir() and ((out / "plan.json").exists() or all(leftover(file.name) for file in out.iterdir()))
    ):
        raise UserError(f"{out} is there already and holds no samples of dmz", "choose another --out")


def sample(
    model: Autoencoder,
    bits: Array | None,
    samples: Samples,
    out: Path,
    batch_size: int = 64,
    talk: Talk | None = None,
    conditions: Conditions | None = None,
) -> Array:
    """Samples images and writes their folder.

    Arguments:
        model: The autoencoder, in evaluation mode.
        bits: uint8 (N, D) from the samples' prior, or ``None`` for a model without a latent.
        samples: What they are.
        out: The folder.
        batch_size: Images at a time.
        talk: Receives progress and remarks.
        conditions: What each code is conditioned on.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        UserError: The recipe does not fit the model, the folder holds something else, the disk is full, or another
            command writes the folder.
        Interrupted: SIGINT or SIGTERM came; finished images are kept.
    """
    talk, conditions = talk or Silence(), conditions or Conditions()
    samples = replace(samples, recipe=samples.recipe.resolved(model.config.diffusion))
    sampler, guidance = samples.recipe.create(model.config.diffusion), samples.recipe.guided(model.config)
    if model.config.diffusion.perturbation > 0 and sampler.deterministic:
        talk.say(
            f"{sampler.name} adds no noise, which works poorly for models trained with input perturbation; "
            "prefer --sampler ancestral"
        )
    _check_free(out)
    processes.check_same_weights(samples.model)
    with hold_together(out, folder=True):
        return _sample(model, bits, samples, sampler, guidance, out, conditions, batch_size, talk)


def _sample(
    model: Autoencoder,
    bits: Array | None,
    samples: Samples,
    sampler: Sampler,
    guidance: Guidance | None,
    out: Path,
    conditions: Conditions,
    batch_size: int,
    talk: Talk,
) -> Array:
    """The same under the folder's lock."""
    folder = out / "images"
    files = [folder / name for name in file_names(samples.count, conditions)]
    if processes.main():
        _claim(out, samples)
        with user_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _rename_plain(files)
    processes.wait()
    channels, height, width = model.shape
    images = np.empty((samples.count, height, width, channels), np.uint8)
    missing = []
    for i, file in enumerate(files):
        restored = _restored(file, images.shape[1:])
        if restored is None:
            missing.append(i)
        else:
            images[i] = restored
    if len(missing) < samples.count:
        talk.say(f"{samples.count - len(missing):,} of {samples.count:,} images are there already")
    if bits is not None:  # one draw: on other processors its rounding may be another
        bits = processes.from_main(torch.from_numpy(np.array(bits))).numpy()
    processes.wait()  # until all have seen what was there before
    own = missing[processes.rank() :: processes.ranks()]
    with (
        collected() as signals,
        talk.task("sampling", samples.count, samples.count - len(missing)) as advance,
    ):
        for start in range(0, len(own), batch_size):
            part = own[start : start + batch_size]
            codes = None if bits is None else bits[part]
            images[part] = decode(
                *(model, codes, sampler, part, samples.seed, batch_size),
                precision=samples.recipe.precision,
                guidance=guidance,
            )
            for i in part:
                write_png(files[i], images[i])
            advance(samples.count - len(missing) + processes.ranks() * (start + len(part)), "")
            if signals:
                break
        heard = int(processes.largest(signals[0] if signals else 0)[0])
        if heard:
            raise Interrupted(heard, "finished images are kept; run the same command to go on")
    for i in sorted(set(missing) - set(own)):
        image = _restored(files[i], images.shape[1:])
        if image is None:
            raise UserError(
                f"{files[i]} is not there, though another process wrote it",
                "the folder must be one that all machines share",
            )
        images[i] = image
    if processes.main():
        _finish(out, samples, images, bits, conditions)
    processes.wait()
    return images


def _rename_plain(files: list[Path]) -> None:
    """Gives images of a folder from before file names said of what they are the names of today."""
    for number, file in enumerate(files):
        plain = file.with_name(f"{number:06d}.png")
        if plain != file and plain.exists():
            plain.replace(file)


def _finish(out: Path, samples: Samples, images: Array, bits: Array | None, conditions: Conditions) -> None:
    """Writes what makes a folder of samples whole; the card is the last."""
    write_png(out / "grid.png", labelled_grid(images, conditions))
    with atomic(out / "samples.npz") as temporary, temporary.open("wb") as stream:
        packed = {} if bits is None else {"bits": np.packbits(bits == 1, axis=1, bitorder="big")}
        if bits is not None and (bits == ABSENT).any():
            packed["present"] = np.packbits(bits != ABSENT, axis=1, bitorder="big")
        np.savez(stream, images=images, **packed, **arrays(conditions))  # type: ignore[arg-type]
    size, channels = images.shape[2:]
    facts = {**samples.facts(), "size": size, "channels": channels, "encoding": "png"}
    write_json(out / "samples.json", {**facts, **conditions.facts})


def sample_run(
    run: Run,
    prior: str | None,
    count: int,
    seed: int,
    recipe: Recipe,
    device: torch.device,
    temperature: float = 1.0,
    given: Path | None = None,
    out: Path | None = None,
    batch_size: int | None = None,
    talk: Talk | None = None,
    classes: Sequence[str] = (),
    prefix: int | None = None,
) -> tuple[Samples, Path]:
    """Samples images of a run from its prior's bits, or finds those that were sampled before.

    Arguments:
        run: The run.
        prior: A kind, a folder, or ``None`` for the newest.
        count: Number of images.
        seed: Seed of bits and noise.
        recipe: The recipe of the images.
        device: Where to compute.
        temperature: Temperature of the prior.
        given: A bit table to condition on, instead of the one that the prior was fitted with.
        out: The folder; by default one in the run, named after the samples.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Receives progress and remarks.
        classes: Names or numbers of the classes to condition on, in turn; by default all.
        prefix: Number of bits that are given, of nested ones; by default all that the prior draws.

    Returns:
        The samples, and their folder.
    """
    model = run.load_model(device)
    source = draw_bits(run, model.dim, prior, count, seed, temperature, given, classes, prefix)
    recipe = recipe.of(run).resolved(model.config.diffusion)
    of = source.conditions
    samples = Samples(
        run.weights_hash, source.name, source.sha256, count, recipe, seed, temperature, of.chosen
    )
    folder = out or run.samples / samples.folder_name()
    talk = talk or Silence()
    talk.say(f"sampling {count:,} images from {run.path} with bits from {source.name} into {folder}")
    if remark := repetition(count, of):
        talk.say(remark)
    if "given_table" in of.facts:
        table = Path(of.facts["given_table"])
        if remark := owner_of(table, of.facts["given_model"]).remark(table, of.facts["given_dataset"]):
            talk.say(remark)
    sample(model, source.bits, samples, folder, batch_size or usual_batch(model), talk, of)
    return samples, folder
