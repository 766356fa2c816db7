"""The perceptron: independent bits, each with a probability that one network computes of the given bits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from priors.arrays import Bits, Float32, Float64
from priors.base import TRAIN_ROWS, Prior
from priors.fit import Fit, Rows
from priors.options import option
from priors.parts.numerics import log_sigmoid, sigmoid
from priors.parts.stopping import seconds
from priors.parts.training_options import TrainingOptions
from priors.randomness import generator
from priors.registry import register
from priors.storage import State

if TYPE_CHECKING:
    from priors.kinds.perceptron.network import Network


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """The network."""

    hidden: int = option(512, "units of a layer", low=1)
    layers: int = option(2, "hidden layers", low=1)
    dropout: float = option(0.1, "share of units dropped in training", low=0.0, high=0.95)


@dataclasses.dataclass(frozen=True)
class PerceptronOptions(TrainingOptions, _Architecture):
    """Options of :class:`Perceptron`."""


@register
class Perceptron(Prior):
    r"""Bits that are independent given g, their log-odds by a network with batch norm, fitted by cross-entropy.

    .. math::
        \log p(b \mid g) = \sum_i b_i \log \sigma(f_i(g)) + (1 - b_i) \log \sigma(-f_i(g)),
        \qquad f(g) = W h_L(\dots h_1(g)) + c, \quad h_l(u) = \operatorname{relu}(\operatorname{bn}(W_l u))

    Rounded, which is the temperature's limit 0, this is the map from the bits of one image to those of another in
    Proszewska, Malkin, Siddharth ("On Designing Diffusion Autoencoders for Efficient Generation and Representation
    Learning", 2025, arXiv 2506.00136): the one code whose every bit is the likelier. Without given bits f is c alone.
    """

    kind = "perceptron"
    summary = "independent bits, their log-odds by a network of the given bits; rounded, the paper's map"
    Options = PerceptronOptions

    _network: Network

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        import torch
        import torch.nn.functional as F

        from priors.parts.training import RATE, NetworkTrainer, marginal_log_odds, step_work

        options = self.options
        self._network = self._new_network(int(generator(self.seed, 5).integers(2**62)))
        with torch.no_grad():
            self._network.bias.copy_(marginal_log_odds(train.bits))
        forward = sum(p.numel() for p in self._network.parameters())
        each = step_work(self._network, forward, len(train), len(valid), options.batch)
        budget = seconds(options.minutes) * RATE
        after = (len(valid) + min(TRAIN_ROWS, len(train))) * forward  # the report's likelihoods
        most = max(1, int(max(budget / 2, budget - after) / each))

        def losses(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
            return F.softplus(-self._network(given) * x).sum(1)

        def score(x: torch.Tensor, given: torch.Tensor) -> Float64:
            return np.asarray(losses(x, given).double().numpy())

        trainer = NetworkTrainer(
            self._network,
            lambda x, given: losses(x, given).mean(),
            score,
            train,
            valid,
            options,
            most,
            int(generator(self.seed, 6).integers(2**62)),
            fit.part(0.0, 0.98, "network"),
        )
        _, stopped = trainer.train()
        return {"stopped": stopped}

    def _new_network(self, seed: int) -> Network:
        import torch

        from priors.kinds.perceptron.network import Network

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            options = self.options
            return Network(self.given_dim, self.dim, options.hidden, options.layers, options.dropout)

    def _logits(self, given: Bits | None, rows: int) -> Float64:
        """f(g), (N, D)."""
        import torch

        from priors.parts.training import sign_tensor

        with torch.no_grad():
            return np.asarray(self._network(sign_tensor(given, rows)).double().numpy())

    def _log_prob(self, rows: Rows) -> Float64:
        signs = 2.0 * rows.bits - 1.0
        return log_sigmoid(signs * self._logits(rows.given, len(rows))).sum(1)

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        return (u < sigmoid(self._logits(given, len(u)) / temperature)).astype(np.uint8)

    def _state(self) -> State:
        from priors.parts.training import arrays

        return arrays(self._network.state_dict())

    def _load_state(self, state: State) -> None:
        from priors.parts.training import tensors

        self._network = self._new_network(0)
        self._network.load_state_dict(tensors(state))
        self._network.eval()

    def _parameters(self) -> int:
        return sum(p.numel() for p in self._network.parameters())
