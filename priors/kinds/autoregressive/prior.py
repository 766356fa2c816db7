"""The autoregressive prior: each bit from all bits before it in an order, by causal networks."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from priors.arrays import Bits, Float32, Float64, Integers
from priors.base import Prior
from priors.errors import PriorError
from priors.fit import Fit, Rows
from priors.kinds.autoregressive import logistic_chain as chain
from priors.kinds.autoregressive import orders
from priors.kinds.autoregressive.averaging import average_log_prob, best_weights
from priors.options import option
from priors.parts import stopping
from priors.parts.numerics import log_sum_exp
from priors.parts.training_options import TrainingOptions
from priors.randomness import generator
from priors.registry import register
from priors.storage import State

if TYPE_CHECKING:
    from priors.kinds.autoregressive.network import CausalNetwork


LEAST_MEMBERS, MOST_MEMBERS = 4, 12  # where their number is open; the least share the minutes
HIDDEN = (128, 512)  # where it is open, the least and the most
CHANNELS, PASSES = 32, 30  # of the convolutional path, where its channels are open; passes that must fit
STARTS = ("chain", "independent")
CHAIN_SHARE = 0.1  # of a member's work, at most


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """The networks, and how many of them."""

    members: int | None = option(
        None, "networks, each with an order of its own, that are averaged; auto by the minutes", low=1
    )
    order: tuple[int, ...] | None = option(None, "a permutation of the bits; auto finds one", low=0)
    ordering: str = option(
        "tree",
        "how orders are chosen: along the Chow-Liu tree, at random, or as the bits stand",
        choices=("tree", "random", "natural"),
    )
    hidden: int | None = option(
        None, "units of a layer of the position-specific path; 0 leaves it out; auto: 8 a bit", low=0
    )
    layers: int = option(2, "layers of the position-specific path", low=1)
    channels: int | None = option(
        None, "channels of the convolutions and the attention; 0 leaves them out; auto by the minutes", low=0
    )
    convolutions: int = option(3, "gated causal convolutions, of dilations 1, 2, 4, ...", low=0)
    heads: int = option(2, "heads of the attention; divides channels", low=1)
    start: str | None = option(
        None,
        "what a network starts from: a sparse chain of logistic regressions, or independent bits; auto tries each",
        choices=("chain", "independent"),
    )
    dropout: float | None = option(
        None, "share of units dropped in training; auto by rows", low=0.0, high=0.95
    )


@dataclasses.dataclass(frozen=True)
class AutoregressiveOptions(TrainingOptions, _Architecture):
    """Options of :class:`Autoregressive`."""

    epochs: int = option(200, "at most so many passes over the rows a network; 0 leaves the chain", low=0)
    rate: float = option(2e-3, "learning rate", low=1e-7)


class _Member(NamedTuple):
    """A network, its order (D,), what it started from, log p of the held-out rows (M,), and what ended its training."""

    network: CausalNetwork
    order: Integers
    start: str
    valid: Float64
    ended: str


@register
class Autoregressive(Prior):
    r"""The weighted average of products of conditionals, each from a causal network with an order of its own.

    .. math:: p(b \mid g) = \sum_m w_m \prod_t p_m(b_{o_m(t)} \mid b_{o_m(1)}, \dots, b_{o_m(t - 1)}, g)

    A network (:mod:`.network`) starts from independent bits, or from a sparse chain of logistic regressions, which
    is hard to improve on where codes are few. The first two networks try one each; the others start from what did
    better. Every network adds masked layers that share no weights (Germain et al., MADE, 2015, arXiv 1502.03509),
    since bits of a code have no neighborhood of their own. The first, where the minutes allow, also adds gated causal
    convolutions and causal attention as in PixelSNAIL (Chen et al., 2017, arXiv 1712.09763). Averaging over orders
    follows Uria et al. ("A deep and tractable density estimator", 2014, arXiv 1310.1757, equation 13), with the
    weights of the greatest likelihood of held-out codes; networks are added until those that could still come are
    expected to gain less than the tolerance (:mod:`priors.parts.stopping`). Sampling keeps the units, convolution
    inputs, keys and values of earlier bits, so D bits take D small steps.
    """

    kind = "autoregressive"
    summary = "each bit from those before it, by causal networks over several orders that are averaged"
    Options = AutoregressiveOptions
    log_prob_rows = 512

    _orders: Integers  # (M, D)
    _networks: list[CausalNetwork]
    _weights: Float64  # (M,)

    def __init__(self, dim: int, seed: int = 0, **options: Any) -> None:
        super().__init__(dim, seed, **options)
        # A bit is a dozen small products for each network, whose calls cost more than their work on few rows.
        self.sample_rows = int(np.clip(2**19 // dim, 512, 4096))
        order, heads = self.options.order, self.options.heads
        if order is not None and sorted(order) != list(range(dim)):
            raise PriorError(
                f"option 'order' of the prior '{self.kind}' is no permutation of 0 to {dim - 1}",
                "name every bit once, from 0",
            )
        width = CHANNELS if self.options.channels is None else self.options.channels
        if width % heads:
            raise PriorError(
                f"option 'heads' of the prior '{self.kind}' is {heads}; expected a divisor of "
                f"'channels', {width}"
            )

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        from priors.parts.training import RATE

        options = self.options
        fixed = options.order is not None or options.ordering == "natural"
        most = options.members or (1 if fixed else MOST_MEMBERS)
        tried = most if options.start else max(most, len(STARTS))  # a single network is the better of two
        budget = stopping.seconds(options.minutes) * RATE
        share = budget / (max(options.members, tried) if options.members else min(tried, LEAST_MEMBERS))
        dropout = default_dropout(len(train)) if options.dropout is None else options.dropout
        spent, done, members, stopped = 0.0, 0.0, list[_Member](), "members"
        while len(members) < tried:
            index = min(len(members), most - 1)  # a second try of a single network keeps its order
            order = orders.find(
                options.order, options.ordering, index, train.bits, generator(self.seed, 7, index)
            )
            start = options.start or next_start(members)
            high = done + (1 - done) / self._members_left(tried, len(members), spent, budget)
            part = fit.part(done, high, f"member-{len(members)}")
            network, work, ended = self._fit_member(
                len(members), start, order, dropout, share, train, valid, part
            )
            spent, done = spent + work, high
            self._networks, self._orders, self._weights = [network], order[None], np.ones(1)
            members.append(_Member(network, order, start, self._log_probs(valid), ended))
            if options.members is None and most > 1:
                if enough(members, most - len(members), options.tolerance):
                    stopped = "tolerance"
                    break
                if len(members) < tried and spent + spent / len(members) > budget:
                    stopped = "minutes"
                    break
        if most == 1:
            members = [max(members, key=lambda member: float(member.valid.mean()))]
        self._networks = [member.network for member in members]
        self._orders = np.stack([member.order for member in members])
        self._weights = best_weights(np.stack([member.valid for member in members]))
        return {
            "dropout": dropout,
            "starts": [member.start for member in members],
            "weights": [round(float(w), 3) for w in self._weights],
            "channels": [channels(network) for network in self._networks],
            "trained": [member.ended for member in members],
            "stopped": stopped,
        }

    @staticmethod
    def _members_left(most: int, done: int, spent: float, budget: float) -> float:
        """An estimate of how many members are still to come, for the progress."""
        left = most - done
        return max(1.0, min(left, (budget - spent) / (spent / done))) if spent else float(left)

    def _fit_member(
        self,
        member: int,
        start: str,
        order: Integers,
        dropout: float,
        share: float,
        train: Rows,
        valid: Rows,
        fit: Fit,
    ) -> tuple[CausalNetwork, float, str]:
        """The next network, trained on codes in its order, the multiplications that it took, and what ended it.

        Arguments:
            member: Number of the network, from 0.
            start: What it starts from, one of ``STARTS``.
            order: A permutation of the bits (D,).
            dropout: Share of units dropped in training.
            share: Multiplications that it should take at most.
            train, valid: Rows in the order of the bits.
            fit: Progress and checkpoint.
        """
        import torch

        from priors.kinds.autoregressive.network import mean_loss, row_losses
        from priors.parts.training import NetworkTrainer, marginal_log_odds, step_work

        options = self.options
        train, valid = Rows(train.bits[:, order], train.given), Rows(valid.bits[:, order], valid.given)
        seed = int(generator(self.seed, 5, member).integers(2**62))
        width = options.channels
        if width is None:
            width = CHANNELS if member == 0 else 0
        network = self._new_network(width, dropout, seed)
        each = step_work(network, network.work(), len(train), len(valid), options.batch)
        if options.channels is None and width and share < PASSES * -(-len(train) // options.batch) * each:
            network = self._new_network(0, dropout, seed)
            each = step_work(network, network.work(), len(train), len(valid), options.batch)
        first = 0.0
        if start == "independent":
            network.start_at(marginal_log_odds(train.bits))
        else:
            first = chain.work(train, CHAIN_SHARE * share)
            if fit.load() is None:
                fitted = chain.fit(train, valid, CHAIN_SHARE * share)
                network.start_at(torch.from_numpy(fitted.bias), torch.from_numpy(fitted.weights))
            network.linear.requires_grad_(False)
        loss, losses = functools.partial(mean_loss, network), functools.partial(row_losses, network)
        most = max(0, int((share - first) / each))
        seed = int(generator(self.seed, 6, member).integers(2**62))
        trainer = NetworkTrainer(network, loss, losses, train, valid, options, most, seed, fit)
        steps, ended = trainer.train()
        return network, first + steps * each, ended

    def _new_network(self, width: int, dropout: float, seed: int) -> CausalNetwork:
        import torch

        from priors.kinds.autoregressive.network import CausalNetwork

        options, hidden = self.options, self.options.hidden
        if hidden is None:
            hidden = int(np.clip(8 * self.dim, *HIDDEN))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CausalNetwork(
                self.dim,
                self.given_dim,
                hidden,
                options.layers,
                width,
                options.convolutions,
                options.heads,
                dropout,
            )

    def _log_prob(self, rows: Rows) -> Float64:
        import torch

        from priors.kinds.autoregressive.network import log_likelihood
        from priors.parts.training import sign_tensor

        x, given = sign_tensor(rows.bits, len(rows)), sign_tensor(rows.given, len(rows))
        with torch.no_grad():
            parts = [
                log_likelihood(network, x[:, torch.from_numpy(order)], given).numpy()
                for network, order in zip(self._networks, self._orders, strict=True)
            ]
        return log_sum_exp(np.stack(parts, axis=1) + np.log(self._weights), axis=1)

    def _width(self) -> int:
        return self.dim + 1

    def _sample(self, u: Float32, given: Bits | None, temperature: float, cached: bool = True) -> Bits:
        import torch

        from priors.kinds.autoregressive.cached_sampling import draw
        from priors.parts.training import sign_tensor

        out = np.empty((len(u), self.dim), np.uint8)
        member = np.searchsorted(np.cumsum(self._weights[:-1]), u[:, 0], side="right")
        for m, (network, order) in enumerate(zip(self._networks, self._orders, strict=True)):
            rows = np.nonzero(member == m)[0]
            if len(rows):
                uniforms = torch.from_numpy(np.ascontiguousarray(u[rows, 1:]))
                context = sign_tensor(None if given is None else given[rows], len(rows))
                drawn = draw(network, uniforms, context, temperature, cached).numpy()
                out[np.ix_(rows, order)] = drawn
        return out

    def _state(self) -> State:
        from priors.parts.training import arrays

        state: State = {"orders": self._orders, "weights": self._weights}
        for m, network in enumerate(self._networks):
            state |= arrays(network.state_dict(), f"{m}.")
        return state

    def _load_state(self, state: State) -> None:
        from priors.parts.training import tensors

        self._orders, self._weights = state["orders"].reshape(-1, self.dim), state["weights"]
        self._networks = []
        for m in range(len(self._orders)):
            values = tensors(state, f"{m}.")
            width = values["snail.position"].shape[1] if "snail.position" in values else 0
            network = self._new_network(width, 0.0, 0)
            network.load_state_dict(values)
            self._networks.append(network.eval())

    def _parameters(self) -> int:
        return sum(p.numel() for network in self._networks for p in network.parameters())


def channels(network: CausalNetwork) -> int:
    """The channels of the convolutional path; 0 where there is none."""
    return 0 if network.snail is None else int(network.snail.position.shape[1])


def next_start(members: list[_Member]) -> str:
    """What the next network starts from: each once, then whichever led to the greatest held-out likelihood."""
    if len(members) < len(STARTS):
        return STARTS[len(members)]
    return max(members, key=lambda member: float(member.valid.mean())).start


def enough(members: list[_Member], more: int, tolerance: float) -> bool:
    """Whether so many more networks are expected to gain less than the tolerance.

    Networks of the better start count, of which two or more must be there: those to come will be alike.
    """
    alike = [i for i, member in enumerate(members) if member.start == next_start(members)]
    if len(alike) < 2 or len(members) < len(STARTS):
        return False
    logs = np.stack([member.valid for member in members])
    average = average_log_prob(logs)
    without = [float(average_log_prob(np.delete(logs, i, axis=0)).mean()) for i in alike]
    left = stopping.left_to_gain(float(average.mean()), without, more)
    return left < stopping.least_gain(average, stopping.MEMBER_SHARE * tolerance)


def default_dropout(rows: int) -> float:
    """More for fewer rows: 0.5 below 5,000, 0.3 below 30,000, else 0.1."""
    return 0.5 if rows < 5_000 else 0.3 if rows < 30_000 else 0.1
