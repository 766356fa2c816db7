"""State dicts of openai/improved-diffusion and openai/guided-diffusion.

Their parameter names are ours, and the shapes tell the architecture: the residual blocks that carry an
upsampling mark the ends of the levels. The number of heads, the order of q, k, v, the image size and the noise
schedule leave no trace in the weights.

References:
    A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, arXiv 2102.09672.
    P. Dhariwal, A. Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021, arXiv 2105.05233.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from dmzcli.errors import UserError
from dmzcli.pretrained.weights import EXPECTED, Weights, by_head, check_finite, load_state

_OUTPUT_BLOCK = re.compile(r"output_blocks\.([^.]*)\.")
PARTS = ("time_embed.", "input_blocks.", "middle_block.", "output_blocks.", "out.")


def read_openai(
    path: Path,
    size: int,
    heads: int | None = None,
    head_channels: int | None = None,
    order: str = "by-head",
) -> Weights:
    """Reads a state dict of improved-diffusion or guided-diffusion.

    Arguments:
        path: ``.pt`` or ``.safetensors``.
        size: Height and width of the images that the model was trained on.
        heads: Attention heads; ``None`` assumes 4, improved-diffusion's default.
        head_channels: Channels of one head in place of ``heads`` (guided-diffusion's ``num_head_channels``).
        order: Order of the rows of q, k, v: ``by-head``, or ``by-role`` (``use_new_attention_order=True``).

    Raises:
        UserError: The file is no whole state dict of such a model, or of one that our U-Net cannot be.
    """
    state = {name.removeprefix("module."): value.float() for name, value in load_state(path).items()}
    check_finite(path, state)
    if "label_emb.weight" in state:
        raise UserError(
            f"{path} is a class-conditional model (it has label_emb.weight), which dmz has no place for",
            "import an unconditional model",
        )
    model, channels, out = _architecture(path, state, size)
    model["heads"] = heads or 4
    model["head_channels"] = head_channels
    assumed = [] if heads or head_channels else ["model.heads"]
    if channels not in (1, 3) or out not in (channels, 2 * channels):
        raise UserError(
            f"{path} turns {channels} channels into {out}, but dmz trains on 1 or 3, predicting as many or twice that",
            "super-resolution and latent models cannot be imported",
        )
    variance = "learned-range" if out == 2 * channels else "fixed-large"
    # Both projects' scripts default to these.
    diffusion = {"schedule": "linear", "timesteps": 1000, "variance": variance}
    assumed += ["diffusion.schedule", "diffusion.timesteps"]
    assumed += ["diffusion.variance"] if variance == "fixed-large" else []
    ours = {name: value for name, value in state.items() if name.startswith(PARTS)}
    if order == "by-role":
        for name in [name for name in ours if re.search(r"\.qkv\.(weight|bias)$", name)]:
            width = len(ours[name]) // 3
            count = width // head_channels if head_channels else model["heads"]
            ours[name] = by_head(_divides(path, count, width), *ours[name].chunk(3))
    settings = {"data": {"size": size, "channels": channels}, "model": model, "diffusion": diffusion}
    left_over = tuple(name for name in state if name not in ours)
    return Weights("openai", path, settings, tuple(assumed), ours, left_over)


def _divides(path: Path, heads: int, width: int) -> int:
    if not heads or width % heads:
        raise UserError(
            f"{heads} heads do not divide the {width} channels of an attention in {path}",
            "give the model's own --heads or --head-channels",
        )
    return heads


def _architecture(path: Path, state: dict[str, Tensor], size: int) -> tuple[dict[str, Any], int, int]:
    """Settings of the U-Net, its input channels and its output channels."""

    def shape(name: str, axis: int = 0) -> int:
        if name not in state or state[name].dim() <= axis or not state[name].numel():
            raise UserError(f"{path} holds no U-Net of improved-diffusion: {name} is missing", EXPECTED)
        return state[name].shape[axis]

    def kind(position: str, layer: str) -> list[int]:
        pattern = re.compile(rf"{re.escape(position)}\.(\d+)\.{layer}$")
        return sorted(int(match[1]) for match in map(pattern.match, state) if match)

    channels = shape("time_embed.0.weight", 1)
    first, out = shape("input_blocks.0.0.weight", 1), shape("out.2.weight")
    numbers = {match[1] for match in map(_OUTPUT_BLOCK.match, state) if match}
    stages = len(numbers)
    if numbers != set(
        map(str, range(stages))
    ):  # a name may hold any number, and no file has a billion blocks
        raise UserError(f"{path} holds no U-Net of improved-diffusion: output blocks are missing", EXPECTED)
    convolutions = [j for j in range(stages) if kind(f"output_blocks.{j}", r"conv\.weight")]
    residual = [j for j in range(stages) if len(kind(f"output_blocks.{j}", r"in_layers\.0\.weight")) > 1]
    ups = convolutions or residual
    levels = len(ups) + 1
    if not stages or stages % levels:
        raise UserError(
            f"{path} holds no U-Net of improved-diffusion: {stages} output blocks in {levels} levels "
            "are not as many in each",
            "models that resample without a convolution (conv_resample=False) cannot be imported",
        )
    blocks = stages // levels - 1
    multipliers, attention = [], []
    for level in range(levels):
        position = f"input_blocks.{1 + level * (blocks + 1)}"
        width = shape(f"{position}.0.out_layers.3.weight")
        if not channels or width % channels:
            raise UserError(
                f"{path} has {width} channels at level {level}, no multiple of the time embedding's {channels}",
                "models with fractional channel multipliers cannot be imported",
            )
        multipliers.append(width // channels)
        if kind(position, r"qkv\.weight"):
            attention.append(size >> level)
    width = shape("input_blocks.1.0.out_layers.3.weight")
    scale_shift = shape("input_blocks.1.0.emb_layers.1.weight") == 2 * width
    model = {
        "channels": channels,
        "multipliers": multipliers,
        "blocks": blocks,
        "attention": attention,
        "time_conditioning": "scale-shift" if scale_shift else "additive",
        "resampling": "residual" if residual and not convolutions else "convolution",
    }
    return model, first, out
