"""The masked diffusion prior: bits are revealed a few at a time, in any order."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from priors.arrays import Bits, Float32, Float64, Integers
from priors.base import TRAIN_ROWS, Prior
from priors.fit import Fit, Rows
from priors.options import option
from priors.parts.numerics import draw_index, log_sum_exp
from priors.parts.stopping import seconds
from priors.parts.training_options import TrainingOptions
from priors.randomness import generator
from priors.registry import register
from priors.storage import State

if TYPE_CHECKING:
    from priors.kinds.masked_diffusion.network import MaskedNetwork

POWERS = (1.0, 1.5, 2.0, 3.0)
VALID_DRAWS = 4  # masks per held-out row when training is scored
CHOOSING_ROWS = 500  # held-out rows that choose the power


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """The network, and the steps in which it reveals bits."""

    steps: int = option(32, "steps of sampling; bits of one step are drawn in parallel", low=1)
    orders: int = option(4, "orders of the bits; each code is drawn in one of them", low=1)
    hidden: int = option(512, "units of a layer", low=1)
    layers: int = option(3, "residual blocks", low=1)
    dropout: float = option(0.1, "share of units dropped in training", low=0.0, high=0.95)


@dataclasses.dataclass(frozen=True)
class MaskedDiffusionOptions(TrainingOptions, _Architecture):
    """Options of :class:`MaskedDiffusion`."""


@register
class MaskedDiffusion(Prior):
    r"""An absorbing discrete diffusion: from all bits hidden to all shown, in S parallel steps.

    .. math::
        p(b \mid g) = \frac 1 K \sum_{k=1}^K \prod_{s=1}^S \prod_{i : n_{s-1} \le \sigma_k(i) < n_s}
        p(b_i \mid b_{\sigma_k < n_{s-1}}, g)

    where each of K orders σ_k ranks the bits at random, n_s of them are known after step s, and a code is drawn in
    one of the orders, each as likely. One network gives every hidden bit from those shown, trained on all orders: the
    order-agnostic model of Hoogeboom et al. ("Autoregressive diffusion models", 2021, arXiv 2110.02037, equations 5
    and 8), the absorbing case of Austin et al. (2021, arXiv 2107.03006). Theirs draws a new order for every sample;
    its likelihood is a sum over D! orders, of which only a lower bound of the mean is known. With the orders fixed by
    the seed, ``log_prob`` is that of what is sampled, code by code. n_s ∝ s^power; the power is chosen on held-out
    codes.
    """

    law = 2  # a code is drawn in one of K orders; before, each in an order of its own
    kind = "masked-diffusion"
    summary = "bits revealed in a few parallel steps by a network, in one of a few orders"
    Options = MaskedDiffusionOptions
    sample_rows = 1024
    log_prob_rows = 1024

    _network: MaskedNetwork
    _ends: list[int]

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        from priors.kinds.masked_diffusion.network import boundaries, random_loss
        from priors.parts.training import RATE, NetworkTrainer, marginal_log_odds, step_work

        options = self.options
        self._network = self._new_network(options.dropout, int(generator(self.seed, 5).integers(2**62)))
        self._network.bias.data.copy_(marginal_log_odds(train.bits))
        forward = sum(p.numel() for p in self._network.parameters())
        each = step_work(self._network, forward, len(train), VALID_DRAWS * len(valid), options.batch)
        some = valid.take(slice(0, CHOOSING_ROWS))
        rows = len(POWERS) * len(some) + len(valid) + min(TRAIN_ROWS, len(train))
        budget = seconds(options.minutes) * RATE
        # The likelihoods that choose the power and make the report: a network for each step and order.
        after = rows * forward * options.orders * min(options.steps, self.dim)
        most = max(1, int(max(budget / 2, budget - after) / each))
        loss, score = functools.partial(random_loss, self._network), self._held_out_losses
        seed, part = int(generator(self.seed, 6).integers(2**62)), fit.part(0.0, 0.98, "network")
        trainer = NetworkTrainer(self._network, loss, score, train, valid, options, most, seed, part)
        _, stopped = trainer.train()
        scores = []
        for power in POWERS:
            self._ends = boundaries(self.dim, options.steps, power)
            scores.append(self._score(some))
        power = POWERS[int(np.argmax(scores))]
        self._ends = boundaries(self.dim, options.steps, power)
        return {"power": power, "steps": len(self._ends) - 1, "stopped": stopped}

    def _held_out_losses(self, x: Any, given: Any) -> Float64:
        """The training loss of held-out rows (M,), each the mean over masks fixed by the seed."""
        import torch

        from priors.kinds.masked_diffusion.network import loss, ranks

        rng, total = generator(self.seed, 8), np.zeros(len(x))
        for _ in range(VALID_DRAWS):
            at = 0
            for block, context in zip(x.split(2048), given.split(2048), strict=True):
                level = (rng.permutation(len(block)) + rng.random(len(block))) / len(block)
                count = torch.from_numpy((level * self.dim).astype(np.int64).clip(max=self.dim - 1))
                rank = ranks(rng.random((len(block), self.dim)))
                total[at : at + len(block)] += loss(self._network, block, context, count, rank).numpy()
                at += len(block)
        return total / VALID_DRAWS

    def _new_network(self, dropout: float, seed: int) -> MaskedNetwork:
        import torch

        from priors.kinds.masked_diffusion.network import MaskedNetwork

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            size = self.options.hidden, self.options.layers
            return MaskedNetwork(self.dim, self.given_dim, *size, dropout)

    @functools.cached_property
    def _orders(self) -> Integers:
        """The rank of every bit in each of the orders (K, D), by the seed."""
        from priors.kinds.masked_diffusion.network import ranks

        return np.asarray(ranks(generator(self.seed, 9).random((self.options.orders, self.dim))).numpy())

    def _log_prob(self, rows: Rows) -> Float64:
        import torch

        from priors.kinds.masked_diffusion.network import log_likelihood
        from priors.parts.training import sign_tensor

        x, given = sign_tensor(rows.bits, len(rows)), sign_tensor(rows.given, len(rows))
        parts = [
            log_likelihood(self._network, x, given, rank, self._ends).numpy()
            for rank in torch.from_numpy(self._orders)
        ]
        return log_sum_exp(np.stack(parts), 0) - np.log(len(parts))

    def _width(self) -> int:
        return self.dim + 1

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        import torch

        from priors.kinds.masked_diffusion.network import draw
        from priors.parts.training import sign_tensor

        each = draw_index(np.ones((1, len(self._orders))), u[:, 0])
        rank, uniforms = torch.from_numpy(self._orders[each]), torch.from_numpy(u[:, 1:].copy())
        drawn = draw(self._network, uniforms, sign_tensor(given, len(u)), rank, self._ends, temperature)
        return np.asarray(drawn.numpy())

    def _state(self) -> State:
        from priors.parts.training import arrays

        return {**arrays(self._network.state_dict()), "ends": np.array(self._ends)}

    def _load_state(self, state: State) -> None:
        from priors.parts.training import tensors

        values = tensors(state)
        self._ends = values.pop("ends").tolist()
        self._network = self._new_network(0.0, 0)
        self._network.load_state_dict(values)
        self._network.eval()

    def _parameters(self) -> int:
        return sum(p.numel() for p in self._network.parameters())
