"""Folders of diffusers' ``UNet2DModel``, bare or inside a pipeline's folder with its scheduler.

References:
    J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", 2020, arXiv 2006.11239: the models
    ``google/ddpm-*`` are its authors' own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dmzcli.errors import UserError
from dmzcli.pretrained.weights import EXPECTED, Weights, by_head, check_finite, load_state
from dmzcli.system.files import read_json

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
"""The arguments of ``UNet2DModel``, and what a configuration that leaves one out means."""

ONLY: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "freq_shift": (0, 1),
}
"""The values that our U-Net computes exactly."""

PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
"""A scheduler's names of what the network predicts, and ours."""

SCHEDULER_ONLY: dict[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear", "squaredcos_cap_v2"),
    "trained_betas": (None,),
    "prediction_type": tuple(PREDICTIONS),
    "rescale_betas_zero_snr": (False,),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned_range"),
}

# Attention, and what changes the resolution (None: as downsample_type or upsample_type says).
BLOCKS: dict[str, tuple[bool, str | None]] = {
    "DownBlock2D": (False, "conv"),
    "AttnDownBlock2D": (True, None),
    "ResnetDownsampleBlock2D": (False, "resnet"),
    "UpBlock2D": (False, "conv"),
    "AttnUpBlock2D": (True, None),
    "ResnetUpsampleBlock2D": (False, "resnet"),
}

RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
# Names of attention's projections before diffusers 0.15, as in the files of google/ddpm-*.
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_unet2d(path: Path) -> Weights:
    """Reads a folder of a ``UNet2DModel``, or of a pipeline that has one in ``unet/``.

    Raises:
        UserError: The folder holds no such model, a file is damaged, or our U-Net cannot be it.
    """
    folder = path / "unet" if (path / "unet" / "config.json").exists() else path
    file = folder / "config.json"
    if not file.exists():
        raise UserError(f"{path} holds no config.json", EXPECTED)
    given = read_json(file)
    if given.get("_class_name") != "UNet2DModel":
        raise UserError(
            f"{file} describes a {given.get('_class_name', 'nameless model')}, not a UNet2DModel", EXPECTED
        )
    unknown = [name for name in given if name not in DEFAULTS and not name.startswith("_")]
    if unknown:
        raise UserError(
            f"{file} sets {unknown[0]}, which dmz does not know",
            "nothing is guessed: remove it if it is void",
        )
    config = {**DEFAULTS, **given}
    _check(file, config, ONLY)
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if weights is None:
        raise UserError(f"{folder} holds neither {' nor '.join(WEIGHTS)}", "download the whole folder")
    try:
        data, model = architecture(file, config)
        _check_numbers(file, config)
    except (TypeError, KeyError, IndexError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{file} has a value of another kind than UNet2DModel's", EXPECTED) from error
    data_channels, out = data["channels"], config["out_channels"]
    if data_channels not in (1, 3) or out not in (data_channels, 2 * data_channels):
        raise UserError(
            f"{file}: in_channels {data_channels} and out_channels {out}, but dmz trains on 1 or 3 channels, "
            "predicting as many or twice that",
            "super-resolution and latent models cannot be imported",
        )
    diffusion, assumed = _diffusion(path, out == 2 * data_channels)
    state = {name: value.float() for name, value in load_state(weights).items()}
    check_finite(weights, state)
    tensors, left_over = rename(weights, state, data, model)
    settings = {"data": data, "model": model, "diffusion": diffusion}
    return Weights("diffusers", weights, settings, assumed, tensors, left_over)


def _check_numbers(file: Path, config: Mapping[str, Any]) -> None:
    """What decides how much there is to build, before anything is."""
    levels = len(config["block_out_channels"])
    numbers = {"levels": levels, "layers_per_block": config["layers_per_block"]}
    numbers |= {name: config[name] for name in ("in_channels", "out_channels", "sample_size")}
    numbers |= {f"block_out_channels {width}": width for width in config["block_out_channels"]}
    for name, value in numbers.items():
        if type(value) is not int or not 1 <= value <= 65536:
            raise UserError(f"{file}: {name} is no whole number from 1 to 65,536", EXPECTED)


def _check(file: Path, config: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]]) -> None:
    for name, allowed in only.items():
        if name in config and config[name] not in allowed:
            raise UserError(
                f"{file}: {name} {config[name]!r} is not {' or '.join(map(repr, allowed))}",
                "dmz imports only what its own U-Net and diffusion compute exactly",
            )


def architecture(file: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of ``data`` and ``model`` that make our U-Net the one of a ``UNet2DModel``'s configuration.

    Arguments:
        file: Where the configuration is from, for the error messages.
        config: All arguments of ``UNet2DModel``.

    Raises:
        UserError: Our U-Net cannot be it.
    """

    def refuse(what: str) -> UserError:
        return UserError(f"{file}: {what}", "dmz imports only what its own U-Net computes exactly")

    widths, size = config["block_out_channels"], config["sample_size"]
    downs, ups = config["down_block_types"], config["up_block_types"]
    if not isinstance(size, int):
        raise refuse(f"sample_size {size!r} is not one number, the height and width")
    for name in (*downs, *ups):
        if name not in BLOCKS:
            raise refuse(f"blocks of type {name} are not among {', '.join(BLOCKS)}")
    if not len(downs) == len(ups) == len(widths):
        raise refuse(f"{len(widths)} levels, but {len(downs)} blocks down and {len(ups)} up")
    attends = [BLOCKS[name][0] for name in downs]
    if attends != [BLOCKS[name][0] for name in reversed(ups)]:
        raise refuse("attention at other levels on the way up than on the way down")
    # The last level of each way changes no resolution.
    changes = {BLOCKS[name][1] or config["downsample_type"] for name in downs[:-1]}
    changes |= {BLOCKS[name][1] or config["upsample_type"] for name in ups[:-1]}
    if len(changes) > 1:
        raise refuse("some levels change the resolution by a convolution, others by a residual block")
    width = widths[0]
    if any(other % width for other in widths):
        raise refuse(f"block_out_channels {widths} are not multiples of the first")
    if config["time_embedding_dim"] not in (None, 4 * width):
        raise refuse(f"time_embedding_dim {config['time_embedding_dim']} is not {4 * width}")
    scale_shift, groups = config["resnet_time_scale_shift"] == "scale_shift", config["norm_num_groups"]
    middle = config["attn_norm_num_groups"] or (None if scale_shift else groups)
    if not groups or middle != groups:
        raise refuse(f"norm_num_groups {groups}, but {middle} groups in the middle's attention")
    head = config["attention_head_dim"]
    data = {"size": size, "channels": config["in_channels"]}
    return data, {
        "channels": width,
        "multipliers": [other // width for other in widths],
        "blocks": config["layers_per_block"],
        "attention": [size >> level for level, attend in enumerate(attends) if attend],
        "heads": 1,
        "head_channels": head,
        "dropout": config["dropout"],
        "time_conditioning": "scale-shift" if scale_shift else "additive",
        "time_embedding": "cos-sin" if config["flip_sin_to_cos"] else "sin-cos",
        "frequency_shift": config["freq_shift"],
        "resampling": "residual" if changes == {"resnet"} else "convolution",
        "downsampling_padding": "symmetric" if config["downsample_padding"] else "end",
        "norm_groups": groups,
        "norm_epsilon": config["norm_eps"],
    }


def _diffusion(path: Path, learned: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings of the scheduler beside the model, and which of them are assumed for want of one."""
    names = ("scheduler/scheduler_config.json", "scheduler_config.json", "../scheduler/scheduler_config.json")
    file = next((path / name for name in names if (path / name).exists()), None)
    variance = "learned-range" if learned else "fixed-small"
    if file is None:
        diffusion = {"schedule": "linear", "timesteps": 1000, "variance": variance}
        return diffusion, tuple(
            f"diffusion.{name}" for name in diffusion if name != "variance" or not learned
        )
    config = read_json(file)
    _check(file, config, SCHEDULER_ONLY)
    timesteps = config.get("num_train_timesteps", 1000)
    if not isinstance(timesteps, int) or timesteps < 2:
        raise UserError(f"{file}: num_train_timesteps {timesteps!r} is no number from 2 up", EXPECTED)
    linear = config.get("beta_schedule", "linear") == "linear"
    for name, usual in (("beta_start", 1e-4), ("beta_end", 0.02)):
        value, expected = config.get(name, usual), usual * 1000 / timesteps
        if linear and not (isinstance(value, float) and math.isclose(value, expected)):
            raise UserError(
                f"{file}: {name} {value} is not {expected:g}, that of the linear schedule of {timesteps} timesteps",
                "dmz imports only what its own diffusion computes exactly",
            )
    kind = config.get("variance_type")  # DDIM's and other schedulers have none
    assumed = () if kind or learned else ("diffusion.variance",)
    if kind is not None and (kind == "learned_range") != learned:
        raise UserError(
            f"{file}: variance_type {kind} does not go with a U-Net whose output has "
            f"{'twice' if learned else 'exactly'} the channels of its input",
            "use the scheduler that the U-Net was trained with",
        )
    if kind is not None and kind.startswith("fixed_large"):
        variance = "fixed-large"
    schedule = "linear" if linear else "cosine"
    prediction = PREDICTIONS[config.get("prediction_type", "epsilon")]
    facts = {"schedule": schedule, "timesteps": timesteps, "variance": variance, "prediction": prediction}
    return facts, assumed


def rename(
    file: Path, state: Mapping[str, Tensor], data: Mapping[str, Any], model: Mapping[str, Any]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Puts a ``UNet2DModel``'s tensors under the names, and in the layout, of our U-Net.

    Arguments:
        file: Where they are from, for the error messages.
        state: The tensors.
        data, model: Settings, from :func:`architecture`.

    Returns:
        Our tensors by name, and the names of theirs that are left over.

    Raises:
        UserError: A tensor is missing.
    """
    tensors: dict[str, Tensor] = {}
    rest = {".".join(RENAMED.get(part, part) for part in name.split(".")): name for name in state}

    def take(theirs: str, change: Callable[[Tensor], Tensor] = lambda value: value) -> Tensor:
        if theirs not in rest:
            raise UserError(f"{file} does not fit its config.json: {theirs} is missing", EXPECTED)
        return change(state[rest.pop(theirs)])

    def copy(theirs: str, ours: str, change: Callable[[Tensor], Tensor] = lambda value: value) -> None:
        for end in ("weight", "bias"):
            tensors[f"{ours}.{end}"] = take(f"{theirs}.{end}", change)

    def residual(theirs: str, ours: str) -> None:
        for name, our_name in RESIDUAL.items():
            if name != "conv_shortcut" or f"{theirs}.{name}.weight" in rest:
                copy(f"{theirs}.{name}", f"{ours}.{our_name}")

    def attention(theirs: str, ours: str) -> None:
        def one_by_one(value: Tensor) -> Tensor:  # a linear layer as a convolution of width 1
            return value.flatten(1)[..., None] if value.dim() > 1 else value

        copy(f"{theirs}.group_norm", f"{ours}.norm")
        copy(f"{theirs}.to_out.0", f"{ours}.proj_out", one_by_one)
        for end in ("weight", "bias"):
            q, k, v = (take(f"{theirs}.{name}.{end}", one_by_one) for name in ("to_q", "to_k", "to_v"))
            heads = len(q) // model["head_channels"] if model["head_channels"] else 1
            if not len(q) == len(k) == len(v) or not heads or len(q) % heads:
                raise UserError(
                    f"{file}: {theirs} has {len(q)} channels, not divided by attention_head_dim "
                    f"{model['head_channels']}",
                    "dmz imports only what its own U-Net computes exactly",
                )
            tensors[f"{ours}.qkv.{end}"] = by_head(heads, q, k, v)

    def level(theirs: str, side: str, index: int, count: int, attends: bool, change: str | None) -> int:
        """Takes a level's ``count`` residual blocks from our ``index`` on; gives the next index."""
        for block in range(count):
            residual(f"{theirs}.resnets.{block}", f"{side}.{index + block}.0")
            if attends:
                attention(f"{theirs}.attentions.{block}", f"{side}.{index + block}.1")
        index += count
        if change is None:
            return index
        down = change == "downsamplers"
        place = f"{side}.{index}.0" if down else f"{side}.{index - 1}.{1 + attends}"
        if model["resampling"] == "residual":
            residual(f"{theirs}.{change}.0", place)
        else:
            copy(f"{theirs}.{change}.0.conv", f"{place}.{'op' if down else 'conv'}")
        return index + down

    for theirs, ours in OUTSIDE.items():
        copy(theirs, ours)
    levels, index = len(model["multipliers"]), 1
    attends = [data["size"] >> depth in model["attention"] for depth in range(levels)]
    for depth in range(levels):
        change = "downsamplers" if depth + 1 < levels else None
        index = level(f"down_blocks.{depth}", "input_blocks", index, model["blocks"], attends[depth], change)
    residual("mid_block.resnets.0", "middle_block.0")
    attention("mid_block.attentions.0", "middle_block.1")
    residual("mid_block.resnets.1", "middle_block.2")
    index = 0
    for depth in reversed(range(levels)):
        theirs = f"up_blocks.{levels - 1 - depth}"
        change = "upsamplers" if depth else None
        index = level(theirs, "output_blocks", index, model["blocks"] + 1, attends[depth], change)
    return tensors, tuple(rest.values())
