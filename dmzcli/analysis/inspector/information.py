r"""Information over time: at which noise the denoiser uses the bits, and for how much.

Let γ = log(α² / σ²) be the log-SNR of x_t, and L(γ) the expected squared error of ε, summed over dimensions. For
Gaussian channels dI(x_t; x_0) / dγ = ½ L(γ) of the best denoiser (the I-MMSE identity of D. Guo, S. Shamai, S. Verdú,
"Mutual Information and Minimum Mean-Square Error in Gaussian Channels", 2005: dI/dsnr = ½ mmse of x_0, and the error of
ε is snr times that of x_0). The bits z are a function of x_0, hence I(x_t; z) = I(x_t; x_0) − I(x_t; x_0 | z), and

    dI(x_t; z) / dγ = ½ (L_none(γ) − L_true(γ)),

with the losses of the best denoisers without bits and with the true ones. L_none needs a model that was trained without
bits, a plain run on the same images. Without one there is a bound: with the bits of another image the error of a
denoiser that is best for these bits exceeds the best by the derivative of a relative entropy (S. Verdú, "Mismatched
Estimation and Relative Entropy", 2010), and

    ½ ∫ (L_other − L_true) dγ = E KL(p(x_t | z) ‖ p(x_t | z')) ≥ I(x_t; z)

for independent z and z', by convexity: it is mutual plus lautum information (D. Palomar, S. Verdú, 2008). The same with
a single bit taken from another image bounds I(x_t; z_i | the other bits).

All of it holds of the best denoisers. A trained one has larger losses: estimates are off by what its excess differs
between the two, in either direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.codes.encode import bits_of
from dmzcli.diffusion.process import Diffusion
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_unit
from dmzcli.system.randomness import stream

Array = np.ndarray
Z = 1.96
"""Half a 95% interval, in standard errors."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Losses over time, and what follows.

    Attributes:
        timesteps: From the most noise to the least, int64 (S,).
        log_snr: γ there, ascending, float64 (S,).
        losses: By what the denoiser was given (``true``, ``other``, ``prior``, ``none``): squared errors of ε summed
            over dimensions, float64 (N, S).
        bits: Which bits were left out one at a time, (K,).
        share: What each adds, E ½ ∫ (L_swapped − L_true) dγ in nats, float64 (K, S): up to each γ; empty without.
    """

    timesteps: Array
    log_snr: Array
    losses: dict[str, Array]
    bits: tuple[int, ...]
    share: Array

    def information(self, worse: str, better: str = "true") -> tuple[Array, Array]:
        """½ ∫ (L_worse − L_better) dγ up to each γ, in nats: mean over images, and half of its 95% interval."""
        each = integrated(self.losses[worse] - self.losses[better], self.log_snr)
        return each.mean(0), Z * each.std(0, ddof=1) / np.sqrt(len(each))

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        facts: dict[str, Any] = {
            "timesteps": self.timesteps.tolist(),
            "log_snr": self.log_snr.tolist(),
            "images": len(self.losses["true"]),
            "losses": {},
            "nats": {},
            "bits_left_out": list(self.bits),
            "nats_per_bit": self.share.tolist(),
        }
        for name, losses in self.losses.items():
            error = Z * losses.std(0, ddof=1) / np.sqrt(len(losses))
            facts["losses"][name] = {"mean": losses.mean(0).tolist(), "interval": error.tolist()}
            if name != "true":
                mean, half = self.information(name)
                facts["nats"][name] = {"mean": mean.tolist(), "interval": half.tolist()}
        return facts


def integrated(difference: Array, log_snr: Array) -> Array:
    """½ ∫ of values (…, S) over ascending γ (S,) by trapezoids, up to each γ: 0 at the first."""
    steps = np.diff(log_snr) * (difference[..., 1:] + difference[..., :-1]) / 4
    return np.concatenate([np.zeros((*difference.shape[:-1], 1)), np.cumsum(steps, -1)], -1)


def grid(process: Diffusion, count: int) -> Array:
    """At most ``count`` timesteps, evenly over γ, from the most noise to the least, int64."""
    log_snr = 2 * process.half_log_snr
    wanted = np.linspace(log_snr[-1], log_snr[0], count)
    nearest = np.abs(log_snr[None] - wanted[:, None]).argmin(1)
    return np.unique(nearest)[::-1].astype(np.int64)


@torch.no_grad()
def squared_errors(
    model: Autoencoder, process: Diffusion, x0: Tensor, noise: Tensor, bits: Tensor | None, timestep: int
) -> Array:
    """‖ε − ε̂‖² of each image at one timestep, float64 (B,)."""
    index = torch.full((len(x0),), timestep, device=x0.device)
    x_t = process.add_noise(x0, index, noise)
    output = model.denoiser(bits)(x_t, process.model_timesteps(index))
    estimate = process.predict(output, x_t, index, threshold=None).epsilon
    error: Array = ((noise - estimate) ** 2).flatten(1).sum(1).double().cpu().numpy()
    return error


def curves(
    model: Autoencoder,
    images: Array,
    prior_bits: Array | None = None,
    plain: Autoencoder | None = None,
    points: int = 24,
    which: list[int] | None = None,
    share_points: int = 8,
    seed: int = 0,
    batch_size: int = 64,
    done: Callable[[int], None] = lambda count: None,
) -> Curves:
    """Losses of images over time: with their bits, with another image's, with those of a prior, and without any.

    Image i has the same noise in all of them. The others' bits are those of the images in a circle, half way round.

    Arguments:
        model: The autoencoder, in evaluation mode.
        images: uint8 (N, H, W, C), N ≥ 2, in no order.
        prior_bits: Draws of a prior, uint8 (N, D); ``None`` leaves them out.
        plain: A model without bits of the same images and schedule; ``None`` leaves it out.
        points: Timesteps at most.
        which: Bits to leave out one at a time, that is to take from the other image; ``None`` for none.
        share_points: Timesteps at most for these.
        seed: Seed of the noise; image i's depends on (seed, i) alone.
        batch_size: Images at a time.
        done: Told how many images are finished.

    Raises:
        UserError: There are fewer than two images, or the plain model has another noise schedule.
    """
    if len(images) < 2:
        raise UserError("one image has no other image's bits", "measure on 2 images or more")
    process = Diffusion(model.config.diffusion)
    own = process if plain is None else Diffusion(plain.config.diffusion)
    if not np.array_equal(own.alphas_bar, process.alphas_bar):
        raise UserError(
            "the model without bits has another noise schedule than the one with bits",
            "name a plain run of the same diffusion.schedule and diffusion.timesteps",
        )
    steps, coarse = grid(process, points), grid(process, share_points)
    log_snr, codes = 2 * process.half_log_snr, bits_of(model, images, batch_size)
    other = np.roll(codes, len(codes) // 2, axis=0)
    given: dict[str, Array | None] = {"true": codes, "other": other}
    if prior_bits is not None:
        given["prior"] = prior_bits
    if plain is not None:
        given["none"] = None
    losses = {name: np.zeros((len(images), len(steps))) for name in given}
    bits, share = tuple(which or ()), np.zeros((len(which or ()), len(coarse)))
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        x0 = to_unit(images[part], model.device)
        drawn = [
            stream("information", seed, start + i).standard_normal(model.shape, np.float32)
            for i in range(len(x0))
        ]
        noise = torch.from_numpy(np.stack(drawn)).to(x0)
        for name, code in given.items():
            network = model if code is not None else plain
            assert network is not None
            rows = None if code is None else torch.from_numpy(code[part]).to(x0.device)
            for column, step in enumerate(steps):
                losses[name][part, column] = squared_errors(
                    network, own if code is None else process, x0, noise, rows, int(step)
                )
        if bits:
            share += _left_out(model, process, x0, noise, codes[part], other[part], bits, coarse)
        done(start + len(x0))
    if bits:
        share = integrated(share / len(images), log_snr[coarse])
        share = np.stack([np.interp(log_snr[steps], log_snr[coarse], row) for row in share])
    else:
        share = np.zeros((0, len(steps)))
    return Curves(steps, log_snr[steps], losses, bits, share)


def _left_out(
    model: Autoencoder,
    process: Diffusion,
    x0: Tensor,
    noise: Tensor,
    codes: Array,
    other: Array,
    bits: tuple[int, ...],
    steps: Array,
) -> Array:
    """What the loss gains in sum over images where one bit is the other image's, float64 (bits, steps).

    Only the images are evaluated whose bit differs: of the rest the gain is exactly 0.
    """
    gains = np.zeros((len(bits), len(steps)))
    rows = [np.flatnonzero(codes[:, bit] != other[:, bit]) for bit in bits]
    owner = np.concatenate([np.full(len(part), k) for k, part in enumerate(rows)]).astype(np.int64)
    image = np.concatenate(rows).astype(np.int64)
    changed = codes[image].copy()
    changed[np.arange(len(image)), np.array(bits)[owner]] ^= 1
    true = torch.from_numpy(codes).to(x0.device)
    for column, step in enumerate(steps):
        base = squared_errors(model, process, x0, noise, true, int(step))
        for start in range(0, len(image), 256):
            part = slice(start, start + 256)
            at = torch.from_numpy(image[part]).to(x0.device)
            code = torch.from_numpy(changed[part]).to(x0.device)
            error = squared_errors(model, process, x0[at], noise[at], code, int(step))
            np.add.at(gains[:, column], owner[part], error - base[image[part]])
    return gains
