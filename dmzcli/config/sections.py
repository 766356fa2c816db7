"""The nouns of an experiment and their settings, each with its type, bounds, default and description."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dmzcli.config.mistakes import path_text

Latent = Literal["none", "bernoulli", "categorical", "ordinal"]
Estimator = Literal["soft", "straight-through", "bernoulli-straight-through", "sign"]
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


class Section(BaseModel):
    """A noun of an experiment: frozen, and of finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
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


class ModelConfig(Section):
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
    conditioning: Annotated[Literal["cross-attention", "time", "both"], YOUNGER] = Field(
        "cross-attention",
        description="how the code reaches the U-Net: as keys and values, added to the time embedding, or both",
    )
    time_code: Annotated[tuple[int, ...] | None, YOUNGER] = Field(
        None,
        max_length=20,
        description="resolutions whose residual blocks have the code in their time embedding; empty: all",
    )
    condition_middle: Annotated[bool, YOUNGER] = Field(
        True, description="whether the middle of the U-Net, too, has the code"
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
    latent: Latent = Field(
        "bernoulli",
        description="the latent family: bits; groups of them that are one variable, of values without (categorical) or "
        "with an order (ordinal); none is the plain diffusion model",
    )
    bits: int = Field(64, ge=1, le=65536, description="|z|, the number of bits")
    values: Annotated[int, YOUNGER] = Field(
        16, ge=2, le=4096, description="values of a categorical or ordinal variable, a power of two"
    )
    tokens: Literal["single", "per-bit"] = Field(
        "single", description="all bits as one token (the paper's) or one token per bit, or per group of them"
    )
    token_width: int = Field(64, ge=1, le=65536, description="width of a bit's token (per-bit tokens only)")
    estimator: Estimator = Field(
        "soft",
        description="training codes: relaxed Gumbel-softmax (the paper's); hard, with its gradient "
        "(straight-through) or that of the probabilities (bernoulli-straight-through); or the most probable ones, with "
        "the identity's (sign)",
    )
    temperature: float = Field(
        1.0, gt=0, description="temperature of the Gumbel-softmax, or of the probabilities' gradient"
    )
    temperature_schedule: Annotated[Literal["constant", "linear", "exponential"], YOUNGER] = Field(
        "constant", description="how the temperature goes to model.temperature_end in training"
    )
    temperature_end: Annotated[float, YOUNGER] = Field(
        0.5, gt=0, description="the schedule's last temperature"
    )
    temperature_steps: Annotated[int, YOUNGER] = Field(
        10_000, ge=1, le=MOST, description="steps until the schedule's last temperature"
    )
    encoder_channels: tuple[Width, ...] | None = Field(
        None,
        max_length=10,
        description="channels of the encoder's stride-2 convolutions; empty: 32, 64, ... down to 2x2",
    )
    nested: Annotated[bool, YOUNGER] = Field(
        False,
        description="bits may be absent: training keeps a random prefix of them, so that any prefix is a code and the "
        "first bits tell most",
    )
    backbone: Annotated[Literal["unet"], YOUNGER] = Field(
        "unet", description="the denoising network: I-DDPM's U-Net"
    )

    @property
    def width(self) -> int:
        """Channels of the U-Net's first level, whose convolutions are the largest."""
        return self.channels * self.multipliers[0]

    @property
    def variable_bits(self) -> int:
        """b, the bits of one variable of the code."""
        return self.values.bit_length() - 1 if self.latent in ("categorical", "ordinal") else 1

    @property
    def attends(self) -> bool:
        """Whether the code is keys and values of cross-attention."""
        return self.conditioning != "time"

    @property
    def times(self) -> bool:
        """Whether the code is added to the time embedding."""
        return self.conditioning != "cross-attention"

    @property
    def dim(self) -> int:
        """D, the number of bits; 0 for the plain diffusion model."""
        return 0 if self.latent == "none" else self.bits


class DiffusionConfig(Section):
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


class TrainingConfig(Section):
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
    prefix: Annotated[Literal["powers", "uniform"], YOUNGER] = Field(
        "powers",
        description="of nested bits: how many a step keeps of an image's: a power of two (or all), or any number",
    )
    unconditional: Annotated[float, YOUNGER] = Field(
        0.1, ge=0, le=1, description="of nested bits: how often a step keeps none"
    )
    optimizer: Annotated[Literal["adamw", "muon"], YOUNGER, OPEN] = Field(
        "adamw",
        description="adamw, or muon: matrices and convolutions take orthogonal steps, the rest AdamW's",
    )
    weight_decay: Annotated[float, OPEN] = Field(0.0, ge=0)
    gradient_clip: Annotated[float, OPEN] = Field(
        1.0, ge=0, description="largest gradient norm; 0 switches it off"
    )
    entropy: Annotated[float, YOUNGER, OPEN] = Field(
        0.0,
        ge=0,
        description="what the lack of entropy of the code's marginals adds to the loss, at most; 0 leaves it out",
    )
    decorrelation: Annotated[float, YOUNGER, OPEN] = Field(
        0.0,
        ge=0,
        description="what the bits' mean squared correlation adds to the loss, at most; 0 leaves it out",
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
