"""What an experiment is: small, frozen, typed models, one per noun, and the presets that name them.

A configuration is resolved in one fixed order: the defaults below, then the preset's table, then flags
and ``--set key=value``. The resolved configuration is stored beside the weights and is all that is
needed to build the model again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dmzcli.config.mistakes import path_text, sentence
from dmzcli.errors import UserError, did_you_mean

Latent = Literal["none", "bernoulli"]
Fit = Literal["exact", "pad", "resize", "crop", "resize-center", "d2c", "adm", "squash"]
Precision = Literal["auto", "no", "bf16"]
MOST = 10**9
"""The largest of all numbers that only their meaning bounds; what is computed from them stays exact."""
Width = Annotated[int, Field(ge=1, le=65536)]


class Mark(Enum):
    """What a setting says of itself, in the annotation of its field."""

    YOUNGER = "came after the first runs"
    FREE = "may differ between the runs of one experiment"
    OPEN = "may still be chosen when imported weights are trained"


# Left out of an experiment's facts at its default, so that what was written before (checkpoints, names with a digest,
# metadata of weights) stays equal to what is written now.
YOUNGER = Mark.YOUNGER
# Changes how long, how fast and how often, not what is learned; which images there are is the dataset's identity, which
# a checkpoint holds beside the settings.
FREE = Mark.FREE
OPEN = Mark.OPEN


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=_Section)
Source = str | Callable[[str], str]


class DataConfig(_Section):
    """Which images, and what they look like to the model."""

    dataset: Annotated[str, OPEN] = Field(
        "digits", description="a registered dataset, or the path of images; empty: imported, not chosen yet"
    )
    data_dir: Annotated[str | None, FREE] = Field(None, description="where the dataset lies")
    size: int | None = Field(None, ge=4, le=1024, description="height and width; empty: the images' own")
    channels: Literal[1, 3] | None = Field(None, description="1 gray, 3 color; empty: the images' own")
    fit: Annotated[Fit, OPEN] = Field(
        "exact",
        description="how images of another size are fitted: exact refuses them; pad with zeros; resize; crop the "
        "center square, then resize. Published crops of CelebA: d2c (DiffAE's: rows 57-184, columns 25-152), "
        "resize-center (the shorter side, then the center), adm (halved by boxes, bicubic, the center), squash (all of "
        "it, out of proportion)",
    )
    side: Annotated[Literal["A", "B"] | None, YOUNGER, OPEN] = Field(
        None, description="of pictures that hold a pair side by side: A left, B right"
    )
    skip_bad: Annotated[bool, FREE] = Field(False, description="leave out pictures that cannot be read")
    feed: Annotated[Literal["auto", "resident", "stream"], FREE] = Field(
        "auto",
        description="training images: resident on the device, streamed from memory or disk; auto: as they fit",
    )
    flip: Annotated[bool, OPEN] = Field(False, description="mirror half of the training images")

    _paths = field_validator("dataset", "data_dir")(path_text)


class ModelConfig(_Section):
    """Encoder, bottleneck and denoising U-Net."""

    channels: int = Field(
        64, ge=4, le=65536, multiple_of=2, description="channels of the U-Net's first level"
    )
    multipliers: tuple[Width, ...] = Field(
        (1, 2, 2), min_length=1, max_length=10, description="channel multiplier per level"
    )
    blocks: int = Field(2, ge=1, le=100, description="residual blocks per level")
    attention: tuple[int, ...] | None = Field(
        None,
        max_length=20,
        description="resolutions with self-attention; empty: the two lowest, of 32 or less",
    )
    cross_attention: tuple[int, ...] | None = Field(
        None,
        max_length=20,
        description="resolutions with cross-attention on the bits; empty: those of self-attention",
    )
    heads: int = Field(4, ge=1, le=65536, description="attention heads")
    head_channels: Annotated[int | None, YOUNGER] = Field(
        None,
        ge=1,
        le=65536,
        description="channels of one attention head; empty: as many as model.heads leaves",
    )
    dropout: Annotated[float, OPEN] = Field(0.0, ge=0, lt=1, description="dropout in the residual blocks")
    time_conditioning: Literal["scale-shift", "additive"] = Field(
        "scale-shift", description="how the time embedding enters a residual block"
    )
    time_embedding: Annotated[Literal["cos-sin", "sin-cos"], YOUNGER] = Field(
        "cos-sin", description="order of the time embedding's sinusoids; sin-cos is DDPM's"
    )
    frequency_shift: Annotated[float, YOUNGER] = Field(
        0.0, ge=0, le=1, description="frequencies are 10000^(-k / (channels / 2 - shift)); 1 is DDPM's"
    )
    resampling: Annotated[Literal["convolution", "residual"], YOUNGER] = Field(
        "convolution", description="what changes the resolution: one convolution, or a residual block"
    )
    downsampling_padding: Annotated[Literal["symmetric", "end"], YOUNGER] = Field(
        "symmetric", description="zeros around the image, or at its right and bottom only (DDPM's)"
    )
    norm_groups: Annotated[int, YOUNGER] = Field(
        32, ge=1, le=65536, description="groups of the normalizations, where they divide the channels"
    )
    norm_epsilon: Annotated[float, YOUNGER] = Field(
        1e-5, gt=0, description="added to the variances that normalizations divide by"
    )
    latent: Latent = Field("bernoulli", description="the latent family; none is the plain diffusion model")
    bits: int = Field(64, ge=1, le=65536, description="|z|, the number of bits")
    tokens: Literal["single", "per-bit"] = Field(
        "single", description="all bits as one token (the paper's) or one token per bit"
    )
    token_width: int = Field(64, ge=1, le=65536, description="width of a bit's token (per-bit tokens only)")
    estimator: Literal["soft", "straight-through"] = Field(
        "soft", description="training codes: relaxed Gumbel-softmax (the paper's) or hard straight-through"
    )
    temperature: float = Field(1.0, gt=0, description="temperature of the Gumbel-softmax")
    encoder_channels: tuple[Width, ...] | None = Field(
        None,
        max_length=10,
        description="channels of the encoder's stride-2 convolutions; empty: 32, 64, ... down to 2x2",
    )
    backbone: Annotated[Literal["unet"], YOUNGER] = Field(
        "unet", description="the denoising network: I-DDPM's U-Net"
    )

    @property
    def width(self) -> int:
        """Channels of the U-Net's first level, whose convolutions are the largest."""
        return self.channels * self.multipliers[0]

    @property
    def dim(self) -> int:
        """D, the number of bits; 0 for the plain diffusion model."""
        return 0 if self.latent == "none" else self.bits


class DiffusionConfig(_Section):
    """The forward process and what the network predicts."""

    timesteps: int = Field(1000, ge=2, le=100_000, description="training timesteps")
    schedule: Literal["cosine", "linear"] = Field("cosine", description="noise schedule")
    variance: Literal["learned-range", "fixed-small", "fixed-large"] = Field(
        "fixed-small", description="variance of the reverse steps"
    )
    prediction: Annotated[Literal["epsilon", "v", "x0"], YOUNGER] = Field(
        "epsilon", description="what the network predicts: the noise, v, or the image"
    )
    timestep_sampling: Annotated[
        Literal["uniform", "loss-second-moment", "logit-normal", "log-normal"], YOUNGER
    ] = Field(
        "uniform",
        description="how training draws timesteps: evenly; as often as their loss is large; more in the middle "
        "(logit-normal in t, of rectified flows); or by a normal log noise level (log-normal, EDM's)",
    )
    weighting: Annotated[Literal["plain", "min-snr", "edm", "learned-uncertainty"], YOUNGER] = Field(
        "plain",
        description="what a timestep's error counts: alike in what is predicted (plain); at most gamma times in "
        "x_0 (min-snr); so that the network's own targets count alike in EDM (edm); or inversely to its loss, which is "
        "learnt (learned-uncertainty, EDM2's)",
    )
    min_snr_gamma: Annotated[float, YOUNGER] = Field(
        5.0, gt=0, description="gamma of the weighting min-snr; 5 as published"
    )
    sigma_data: Annotated[float, YOUNGER] = Field(
        0.5, gt=0, description="deviation of pixels in [-1, 1], for the weighting edm; 0.5 as published"
    )
    zero_terminal_snr: Annotated[bool, YOUNGER] = Field(
        False, description="shift the schedule so that the last timestep is noise alone; not for epsilon"
    )
    perturbation: Annotated[float, OPEN] = Field(
        0.0, ge=0, description="DDPM-IP's gamma: extra noise on the input only"
    )

    @model_validator(mode="after")
    def _noise_alone_is_no_target(self) -> DiffusionConfig:
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "diffusion.zero_terminal_snr needs diffusion.prediction=v or x0: where there is noise alone, "
                "epsilon says nothing of the image"
            )
        return self


class TrainingConfig(_Section):
    """Optimization, and how often what is written."""

    steps: Annotated[int, FREE] = Field(20000, ge=1, le=MOST, description="optimizer steps")
    batch_size: Annotated[int, OPEN] = Field(
        128, ge=1, le=MOST, description="images per step, over all processes"
    )
    learning_rate: Annotated[float, OPEN] = Field(1e-4, gt=0)
    warmup: Annotated[int, OPEN] = Field(
        0, ge=0, le=MOST, description="steps of linear learning-rate warm-up"
    )
    decay: Annotated[float, YOUNGER, FREE] = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps, at the end, in which the rate falls to zero; a run that is lengthened falls "
        "at its new end, and any run may still choose it",
    )
    optimizer: Annotated[Literal["adamw", "muon"], YOUNGER, OPEN] = Field(
        "adamw",
        description="adamw, or muon: matrices and convolutions take orthogonal steps, the rest AdamW's",
    )
    weight_decay: Annotated[float, OPEN] = Field(0.0, ge=0)
    gradient_clip: Annotated[float, OPEN] = Field(
        1.0, ge=0, description="largest gradient norm; 0 switches it off"
    )
    ema: Annotated[float, OPEN] = Field(0.9999, ge=0, lt=1, description="decay of the averaged weights")
    average: Annotated[Literal["exponential", "power"], YOUNGER, OPEN] = Field(
        "exponential",
        description="which average: of decay ema; or power: of a width that is a share of the steps so far, any other "
        "of which dmz average makes afterwards",
    )
    average_length: Annotated[float, YOUNGER, OPEN] = Field(
        0.1, gt=0, le=0.28, description="relative width of the average power; EDM2's are 0.01 to 0.25"
    )
    precision: Annotated[Precision, FREE] = Field(
        "auto", description="auto: bf16 where a convolution shows that it is faster, else no (float32)"
    )
    accumulate: Annotated[int, FREE] = Field(
        1, ge=1, le=MOST, description="parts that a process takes its batch in: less memory, the same step"
    )
    checkpoint_activations: Annotated[bool, FREE] = Field(
        False, description="compute the U-Net's activations again for the backward pass: less memory, slower"
    )
    compile: Annotated[bool, FREE] = Field(
        False, description="compile the U-Net block by block: some time at the start, then faster on a GPU"
    )
    channels_last: Annotated[bool, FREE] = Field(
        False,
        description="with compile: the U-Net's channels next to each other in memory, as bf16 convolutions like it",
    )
    seed: int = Field(0, ge=0, lt=2**31)
    log_every: Annotated[int, FREE] = Field(50, ge=1, le=MOST)
    valid_every: Annotated[int, FREE] = Field(1000, ge=1, le=MOST)
    sample_every: Annotated[int, FREE] = Field(5000, ge=1, le=MOST)
    checkpoint_every: Annotated[int, FREE] = Field(1000, ge=1, le=MOST)


class DataOnly(_Section):
    """How images are read, where no model takes part."""

    data: DataConfig = DataConfig()


class Config(_Section):
    """The whole experiment; see the sections for the fields."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images.

        Raises:
            ValueError: The settings are not resolved.
        """
        if self.data.size is None or self.data.channels is None:
            raise ValueError("the images' shape is not known before Config.resolved")
        return self.data.channels, self.data.size, self.data.size

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Config:
        batch, parts = self.training.batch_size, self.training.accumulate
        if batch % parts:
            raise ValueError(f"training.batch_size {batch} is not a multiple of training.accumulate {parts}")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Config:
        size, levels = self.data.size, len(self.model.multipliers)
        if size is not None and size % 2 ** (levels - 1):
            raise ValueError(
                f"data.size {size} cannot be halved {levels - 1} times, as the {levels} levels of "
                f"model.multipliers {list(self.model.multipliers)} need"
            )
        if size is not None:
            resolutions = [size >> level for level in range(levels)]
            for field in ("attention", "cross_attention"):
                wrong = [r for r in getattr(self.model, field) or () if r not in resolutions]
                if wrong:
                    raise ValueError(
                        f"model.{field} {wrong} is not among the U-Net's resolutions {resolutions}"
                    )
        key = "heads" if self.model.head_channels is None else "head_channels"
        divisor = getattr(self.model, key)
        for multiplier in self.model.multipliers:
            if self.model.channels * multiplier % divisor:
                raise ValueError(
                    f"model.{key} {divisor} does not divide the {self.model.channels * multiplier} channels of a level"
                )
        return self

    def resolved(self, size: int, channels: int) -> Config:
        """The configuration for images of this size: nothing is left for later code to choose.

        Raises:
            UserError: The U-Net's levels do not divide the size, or a resolution is not among them.
        """
        tree = self.model_dump()
        tree["data"].update(size=size, channels=channels)
        if self.model.attention is None:
            resolutions = [size >> level for level in range(len(self.model.multipliers))]
            tree["model"]["attention"] = tuple(r for r in resolutions if r <= 32)[-2:]
        if self.model.cross_attention is None:
            tree["model"]["cross_attention"] = tree["model"]["attention"]
        return parse(tree, "the settings for this dataset")

    def experiment(self) -> dict[str, Any]:
        """The fields that make the experiment what it is: two runs with equal ones may continue each other.

        Fields younger than the first runs are left out at their defaults.
        """
        tree = self.model_dump(mode="json")
        for key in known_keys():
            section, name = key.split(".")
            at_default = tree[section][name] == default(key)
            if says(key, FREE) or (says(key, YOUNGER) and at_default):
                tree[section].pop(name)
        return tree

    def digest(self) -> str:
        """Eight hexadecimal digits that name :meth:`experiment`."""
        return hashlib.sha256(json.dumps(self.experiment(), sort_keys=True).encode()).hexdigest()[:8]


def fields() -> dict[str, type[_Section]]:
    """The sections by name."""
    return {
        "data": DataConfig,
        "model": ModelConfig,
        "diffusion": DiffusionConfig,
        "training": TrainingConfig,
    }


def default(key: str) -> Any:
    """The default of ``section.name``."""
    section, name = key.split(".")
    return fields()[section].model_fields[name].default


def says(key: str, mark: Mark) -> bool:
    """Whether the field ``section.name`` bears a mark."""
    section, name = key.split(".")
    return mark in fields()[section].model_fields[name].metadata


def known_keys() -> list[str]:
    """Every ``section.name``."""
    return [f"{section}.{name}" for section, cls in fields().items() for name in cls.model_fields]


def parse(tree: Mapping[str, Any], source: Source) -> Config:
    """Validates a nested mapping.

    Arguments:
        tree: ``{"model": {"channels": 64}, …}``; what is left out takes its default.
        source: What the mapping came from, for the error message; or a function that says it of ``section.name``.

    Raises:
        UserError: A key is unknown or a value does not fit.
    """
    return parse_as(Config, tree, source)


def parse_as(kind: type[S], tree: Mapping[str, Any], source: Source) -> S:
    """The same for another set of sections than the whole :class:`Config`."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        where = source(key) if callable(source) else source
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"unknown setting '{key}' in {where}", did_you_mean(key, known_keys(), "known settings")
            ) from error
        message, hint = sentence(first)
        raise UserError(f"{message} (in {where})", hint) from error
