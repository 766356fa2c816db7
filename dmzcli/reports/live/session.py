"""A run as a person plays with it: an image's bits, what they decode to, and what is known of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

import priors
from dmzcli.analysis.search import CodeIndex, packed
from dmzcli.codes.find import load_prior
from dmzcli.codes.table import BitTable
from dmzcli.data import SPLITS, Dataset
from dmzcli.data.crops import Crop, with_channels
from dmzcli.data.dataset import spread
from dmzcli.data.formats.picture import decode as decode_picture
from dmzcli.diffusion import samplers
from dmzcli.errors import UserError, did_you_mean
from dmzcli.generation.decode import decode
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_unit
from dmzcli.reports.live import completion, known
from dmzcli.reports.live.reading import Reader, fewest_flips, readers
from dmzcli.runs.run import Run
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
STEPS = 10
"""T where nobody says."""
IMAGES = 16
"""Most images of one decoding."""
PIXELS = 1 << 24
"""Most pixels of an uploaded picture."""
REAL = 256
"""Codes of images whose likelihood says what is usual."""
NEIGHBORS = 50
"""Most neighbors."""


class Session:
    """One run in play.

    Arguments:
        run: The run; its model has bits.
        device: Where to compute.
        dataset: The images of its bit table; ``None`` where they are not at hand.
        talk: Receives what is left out.

    Raises:
        UserError: The model has no bits, or a file of the run is damaged or of other weights.
    """

    def __init__(
        self, run: Run, device: torch.device, dataset: Dataset | None = None, talk: Talk | None = None
    ) -> None:
        talk = talk or Silence()
        if not run.config.model.dim:
            raise UserError(
                f"{run.path} is a plain diffusion model without bits", "explore a run of --latent bernoulli"
            )
        self.run = run
        self.model: Autoencoder = run.load_model(device)
        self.absent: dict[str, str] = {}
        self.table = self._read_table()
        self.dataset = self._checked(dataset)
        self.priors = self._load_priors()
        self.readers: list[Reader] = []
        if self.table is not None:
            talk.say("fitting the linear probe")
            self.readers, missing = readers(self.table)
            self.absent |= missing
        self.known = known.inspected(run, self.model.dim)
        for what, why in self.absent.items():
            talk.say(f"left out: {what}: {why}")

    @property
    def dim(self) -> int:
        """D."""
        return self.model.dim

    @property
    def count(self) -> int:
        """How many images of the dataset can be shown, with their pictures or by their codes alone."""
        if self.dataset is not None:
            return len(self.dataset)
        return 0 if self.table is None else len(self.table.bits)

    def facts(self) -> dict[str, Any]:
        """What a page needs to begin, as JSON."""
        channels, height, width = self.model.shape
        most = self.run.config.diffusion.timesteps
        return {
            "run": self.run.path.name,
            "dim": self.dim,
            "shape": [height, width, channels],
            "images": self.count,
            "pictures": self.dataset is not None,
            "neighbors": self.table is not None,
            "samplers": samplers.available(),
            "sampler": "ddim" if "ddim" in samplers.available() else samplers.available()[0],
            "steps": min(STEPS, most),
            "most_steps": most,
            "most_images": IMAGES,
            "priors": [{"name": name, **self._usual[name]} for name in self.priors],
            "probes": [
                {
                    "target": reader.target,
                    "names": list(reader.names),
                    "exclusive": reader.exclusive,
                    "measure": "accuracy" if reader.exclusive else "AUROC",
                    "quality": reader.quality,
                    "rows": reader.rows,
                }
                for reader in self.readers
            ],
            "bits": known.told(self.table, self.known, self.dim),
            "absent": self.absent,
        }

    # Images to bits.

    def encode(self, image: Array) -> dict[str, Array]:
        """``bits`` uint8 (D,) and ``probs`` q(z_i = 1 | x), float (D,), of an image uint8 (H, W, C)."""
        with torch.inference_mode():
            logits = self.model.logits(to_unit(image[None], self.model.device))
            probs = self.model.latent.probabilities(logits)[0].float().cpu().numpy()
            return {"bits": self.model.latent.bits(logits)[0].cpu().numpy(), "probs": probs}

    def upload(self, data: bytes) -> dict[str, Array]:
        """``image``, ``bits`` and ``probs`` of a picture file; its center is cut out and resampled.

        Raises:
            UserError: It is no picture, or has too many pixels.
        """
        channels, size, _ = self.model.shape
        picture, _ = decode_picture(data, "the picture", PIXELS)
        image = with_channels(Crop(size=size, fit="crop").apply(picture, "the picture"), channels)
        return {"image": image, **self.encode(image)}

    def row(self, number: int) -> dict[str, Any]:
        """The same of an image of the dataset, with its ``caption``.

        Raises:
            UserError: There is no such image.
        """
        if not 0 <= number < self.count:
            raise UserError(
                f"there is no image {number}", f"it has {self.count:,} images" if self.count else "upload one"
            )
        if self.dataset is not None:
            image = np.asarray(self.dataset.images[number])
            return {"image": image, **self.encode(image), "caption": self._caption(number)}
        assert self.table is not None
        bits = self.table.bits[number]
        probs = bits if self.table.probs is None else self.table.probs[number]
        return {"bits": bits, "probs": probs.astype(np.float32), "caption": self._caption(number)}

    # Bits to images.

    def decode(
        self,
        codes: Array,
        noises: list[int],
        steps: int,
        sampler: str,
        watch: Callable[[Array], None] | None = None,
    ) -> Array:
        """Images of every code with every noise, uint8 (codes · noises, H, W, C): a function of the arguments alone.

        Arguments:
            codes: uint8 (M, D).
            noises: Numbers of the noises.
            steps: T.
            sampler: Its name.
            watch: Shown the estimates of all images at every step, as these; what it raises ends the call.

        Raises:
            UserError: They are too many, or T or the sampler does not fit.
        """
        count = len(codes) * len(noises)
        if not 1 <= count <= IMAGES:
            raise UserError(f"{count} images were asked for at once", f"ask for 1 to {IMAGES}")
        recipe = Recipe(sampler=sampler, steps=steps)
        recipe.check()
        made = recipe.create(self.run.config.diffusion)
        bits = np.repeat(codes, len(noises), 0)
        return decode(self.model, bits, made, noises * len(codes), 0, count, watch=watch)

    # What is known of bits.

    def prior(self, name: str) -> priors.Prior:
        """A prior of the run.

        Raises:
            UserError: It has none of this name.
        """
        if name not in self.priors:
            raise UserError(f"there is no prior '{name}' here", did_you_mean(name, self.priors, "priors"))
        return self.priors[name]

    def reader(self, target: str, k: int) -> Reader:
        """The probe of a target that has a class or attribute ``k``.

        Raises:
            UserError: There is none.
        """
        for reader in self.readers:
            if reader.target == target and 0 <= k < len(reader.names):
                return reader
        raise UserError(f"there is no probe of {target} {k}", "take one that the page lists")

    def readings(self, bits: Array) -> dict[str, Any]:
        """What each prior thinks of a code, in bits (−log₂ p), and what each probe reads in it."""
        told = {name: _in_bits(prior.log_prob(bits[None]))[0].item() for name, prior in self.priors.items()}
        return {
            "priors": {name: value if math.isfinite(value) else None for name, value in told.items()},
            "probes": {r.target: r.probabilities(bits[None])[0].tolist() for r in self.readers},
        }

    def steer(self, bits: Array, locked: Array, target: str, k: int, more: bool) -> Array:
        """The code with the fewest free bits flipped so that the probe says yes, or no."""
        return fewest_flips(self.reader(target, k), bits, k, more, locked)

    def draw(self, prior: str, seed: int) -> Array:
        """A sampled code, uint8 (D,)."""
        return self.prior(prior).sample(1, seed=seed)[0]

    def complete(
        self, prior: str, bits: Array, locked: Array, seed: int, go: Callable[[], None] = lambda: None
    ) -> completion.Completed:
        """A draw of the free bits given the locked ones."""
        return completion.complete(self.prior(prior), bits, locked, seed, go)

    def climb(
        self, prior: str, bits: Array, locked: Array, go: Callable[[], None] = lambda: None
    ) -> completion.Completed:
        """The likelier code nearby."""
        return completion.Completed(completion.climb(self.prior(prior), bits, locked, go), "climbed")

    def path(
        self, start: Array, end: Array, prior: str | None, go: Callable[[], None] = lambda: None
    ) -> Array:
        """Codes from one to another, a flip at a time, uint8 (h + 1, D)."""
        return completion.path(start, end, None if prior is None else self.prior(prior), go)

    def neighbors(self, bits: Array, count: int) -> list[dict[str, Any]]:
        """Images whose codes differ in the fewest bits: ``row``, ``distance``, ``caption``, and ``image`` if at hand.

        Raises:
            UserError: There is no bit table.
        """
        if self.table is None:
            raise UserError("there are no codes to search among", f"dmz encode --run {self.run.path}")
        found = self._index.nearest(packed(bits[None]), min(count, NEIGHBORS))
        rows = []
        for place, distance in zip(found.rows[0], found.distances[0], strict=True):
            number = int(self.table.index[place]) if self.dataset is not None else int(place)
            facts: dict[str, Any] = {"row": number, "distance": int(distance)}
            facts["caption"] = self._caption(number)
            if self.dataset is not None:
                facts["image"] = np.asarray(self.dataset.images[number])
            rows.append(facts)
        return rows

    # What the run has.

    @cached_property
    def _index(self) -> CodeIndex:
        assert self.table is not None
        return CodeIndex(packed(self.table.bits))

    @cached_property
    def _usual(self) -> dict[str, dict[str, float]]:
        """By prior: the 5th, 50th and 95th percentile of −log₂ p over codes of images, held-out ones if there are."""
        if self.table is None:
            return {name: {} for name in self.priors}
        split = next(name for name in reversed(SPLITS) if len(self.table.rows(name)))
        codes = self.table.bits[spread(self.table.rows(split), REAL)]
        usual = {}
        for name, prior in self.priors.items():
            values = _in_bits(prior.log_prob(codes))
            low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
            finite = np.isfinite([low, median, high]).all()
            usual[name] = {"low": low, "median": median, "high": high} if finite else {}
        return usual

    def _read_table(self) -> BitTable | None:
        if not self.run.bits.exists():
            self.absent["neighbors and probes"] = f"no bit table: dmz encode --run {self.run.path}"
            return None
        table = BitTable.read(self.run.bits)
        if table.model != self.run.weights_hash:
            self.absent["neighbors and probes"] = (
                f"the bits are of other weights: dmz encode --run {self.run.path}"
            )
            return None
        return table

    def _checked(self, dataset: Dataset | None) -> Dataset | None:
        """The dataset, if it is that of the bits.

        Raises:
            UserError: Its images do not fit the model, or the bits are of other images.
        """
        if dataset is None:
            self.absent["pictures of the dataset"] = "it is not at hand: name its place with --data-dir"
            return None
        self.model.check_images(dataset.images, "take the dataset that the run was trained on")
        if self.table is not None and self.table.dataset != dataset.identity:
            raise UserError(
                f"the dataset is {dataset.identity}, but {self.run.bits} was made from {self.table.dataset}",
                "name the same dataset with --data-dir, or encode anew",
            )
        return dataset

    def _load_priors(self) -> dict[str, priors.Prior]:
        found = {}
        for file in sorted(self.run.priors.glob("*/prior.json")):
            name = file.parent.name
            try:
                prior = load_prior(file.parent, self.run, self.dim)
            except UserError as error:  # of earlier weights: the rest of the page is none the worse
                self.absent[f"the prior {name}"] = error.message
                continue
            if prior.given_dim:
                self.absent[f"the prior {name}"] = "it is of codes given others, and a board has only its own"
            else:
                found[name] = prior
        if not found:
            self.absent["priors"] = f"none fits: dmz fit-prior --run {self.run.path}"
        return found

    def _caption(self, number: int) -> str:
        source = self.dataset if self.dataset is not None else self.table
        assert source is not None
        parts = [f"image {number}", SPLITS[source.split[number]]]
        if source.labels is not None:
            parts.append(str(source.label_names[source.labels[number]]))
        return ", ".join(parts)


def _in_bits(nats: Array) -> Array:
    """−log₂ p of log p."""
    return -nats / math.log(2)
