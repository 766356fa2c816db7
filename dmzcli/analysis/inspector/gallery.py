r"""The gallery: what a bit does to images, and where the denoiser looks for it.

The same images' codes are decoded from the same noise with the bit at 0 and at 1; the difference of the two, averaged
over the images, is what the bit changes in general. With one token per bit, the attention weight softmax(q·k / √d) of
the bit's token at each position of each cross-attention is averaged over heads, images and steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.diffusion.samplers import create
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.layers import CrossAttention, KeysValues

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One bit of the gallery.

    Attributes:
        bit: Its position.
        zero, one: Images decoded with the bit at 0 and at 1, uint8 (N, H, W, C).
    """

    bit: int
    zero: Array
    one: Array

    @property
    def difference(self) -> Array:
        """The mean of one − zero, in gray levels, float64 (H, W, C)."""
        mean: Array = (self.one.astype(np.float64) - self.zero).mean(0)
        return mean

    @property
    def effect(self) -> float:
        """Root mean square of one − zero over images and pixels, in gray levels."""
        return float(np.sqrt(((self.one.astype(np.float64) - self.zero) ** 2).mean()))


def gallery(
    model: Autoencoder,
    bits: Array,
    which: list[int],
    steps: int,
    seed: int = 0,
    batch_size: int = 256,
    done: Callable[[int], None] = lambda count: None,
) -> list[Exhibit]:
    """Decodes the codes with each of some bits at 0 and at 1.

    Arguments:
        model: The autoencoder, in evaluation mode.
        bits: uint8 (N, D), the images' codes.
        which: The bits.
        steps: T of the ancestral sampler.
        seed: Seed of the noise, which is the same for all bits.
        batch_size: Images at a time.
        done: Told how many bits are finished.
    """
    sampler = create("ancestral", model.config.diffusion, steps)
    exhibits = []
    for number, bit in enumerate(which):
        both = np.concatenate([bits, bits])
        both[: len(bits), bit], both[len(bits) :, bit] = 0, 1
        indices = [*range(len(bits)), *range(len(bits))]
        images = decode(model, both, sampler, indices, seed, batch_size)
        exhibits.append(Exhibit(bit, images[: len(bits)], images[len(bits) :]))
        done(number + 1)
    return exhibits


@contextmanager
def watched(model: Autoencoder) -> Iterator[dict[str, list[Tensor]]]:
    """Collects the attention weights (B, positions, tokens), head by head averaged, of every cross-attention.

    The layer itself is left alone: a hook computes its softmax once more from what it was given.
    """
    seen: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[[CrossAttention, tuple[Tensor, KeysValues], Tensor], None]:
        def keep(layer: CrossAttention, inputs: tuple[Tensor, KeysValues], output: Tensor) -> None:
            seen.setdefault(name, []).append(attention(layer, *inputs).mean(1))

        return keep

    layers = {
        n: m for n, m in model.backbone.named_modules() if isinstance(m, CrossAttention) and not m.single
    }
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def attention(layer: CrossAttention, x: Tensor, bits: KeysValues) -> Tensor:
    """The weights (B, heads, H·W, tokens) with which the layer's positions attend to the bits' tokens."""
    assert bits.keys is not None
    batch, _, height, width = x.shape
    q = layer.query(layer.norm(x).flatten(2).transpose(1, 2))
    q = q.reshape(batch, height * width, layer.heads, -1).transpose(1, 2)
    return (q @ bits.keys.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)


def attention_maps(model: Autoencoder, bits: Array, steps: int, seed: int = 0) -> dict[str, Array]:
    """Mean attention of every bit, or of its variable, at each cross-attention while the codes are decoded.

    Arguments:
        model: The autoencoder, in evaluation mode.
        bits: uint8 (N, D).
        steps: T of the ancestral sampler.
        seed: Seed of the noise.

    Returns:
        float32 (D, h, w) by the layer's position in the network; empty where there is one token for all bits, whose
        weight is 1 everywhere.
    """
    if model.tokens is None or model.tokens.single:
        return {}
    with watched(model) as seen:
        decode(model, bits, create("ancestral", model.config.diffusion, steps), range(len(bits)), seed)
    maps: dict[str, Any] = {}
    for name, weights in seen.items():
        mean = torch.cat([w.float() for w in weights]).mean(0).T
        mean = mean.repeat_interleave(model.dim // len(mean), dim=0)
        side = math.isqrt(mean.shape[1])
        maps[name.removeprefix("cross.")] = mean.reshape(-1, side, side).cpu().numpy()
    return maps
