"""Training a small network on codes: averaged weights, a rate that falls when held-out codes stop gaining.

An evaluation takes place after every pass over the rows, and at least every ``EVERY`` steps. It scores the
exponential average of the weights. After ``patience`` evaluations without a gain the best weights come
back and the learning rate falls by ``FALL``; after ``FALLS`` falls training ends with the best weights.

Every stretch between evaluations seeds its own randomness, so a fit that was killed continues from its
checkpoint to the same weights. The global generator is put back as it was.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from priors.fitting import Bits, Rows, Run
from priors.randomness import generator

EVERY = 100  # steps between evaluations, at least
FALL, FALLS = 0.3, 2
AVERAGING = 0.998
CLIP = 5.0
WARM_UP = 100  # steps
SAVE_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a network is trained; the fields mean what the options of the network kinds say."""

    epochs: int
    batch: int
    rate: float
    decay: float
    patience: int


def signs(bits: Bits | None, rows: int) -> Tensor:
    """Bits as float (N, D) of −1 and 1; (N, 0) where there are none."""
    if bits is None:
        return torch.zeros(rows, 0)
    return torch.from_numpy(bits).float() * 2 - 1


def set_bias(bias: nn.Parameter, bits: Bits) -> None:
    """Starts output biases (D,) at the smoothed log-odds of the bits (N, D)."""
    p = (bits.sum(0, dtype=np.float64) + 0.5) / (len(bits) + 1)
    with torch.no_grad():
        bias.copy_(torch.from_numpy(np.log(p) - np.log1p(-p)))


class Trainer:
    """Trains a network to the least mean loss on held-out rows.

    Arguments:
        network: Trained in place; ends in evaluation mode with the best weights.
        loss: Signs (N, D) and given signs (N, G) to a mean loss, with torch's own randomness.
        score: The network, held-out signs and given signs to a mean loss without randomness.
        train, valid: Rows.
        schedule: :class:`Schedule`.
        seed: Of order, dropout and masks.
        run: Progress and checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        score: Callable[[Tensor, Tensor], float],
        train: Rows,
        valid: Rows,
        schedule: Schedule,
        seed: int,
        run: Run,
    ) -> None:
        self._network, self._loss, self._score = network, loss, score
        self._train = signs(train.bits, len(train)), signs(train.given, len(train))
        self._valid = signs(valid.bits, len(valid)), signs(valid.given, len(valid))
        self._schedule, self._seed, self._run = schedule, seed, run
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=schedule.rate, weight_decay=schedule.decay, fused=True
        )
        self._average = copy.deepcopy(network.state_dict())
        self._best = copy.deepcopy(network.state_dict())
        self._facts: dict[str, Any] = {
            "stretch": 0, "step": 0, "least": float("inf"), "stale": 0, "falls": 0, "done": False,
        }  # fmt: skip

    def train(self) -> float:
        """Trains to the end, from the checkpoint where there is one; returns the least held-out loss."""
        self._resume()
        saved = time.monotonic()
        schedule, facts = self._schedule, self._facts
        steps = -(-len(self._train[0]) // schedule.batch)  # of a pass
        passes = min(schedule.epochs, max(1, -(-EVERY // steps)))  # of a stretch
        stretches = max(1, -(-schedule.epochs // passes))
        with torch.random.fork_rng(devices=[]):
            while not facts["done"]:
                self._stretch(passes)
                self._evaluate()
                facts["done"] = facts["falls"] >= FALLS or facts["stretch"] >= stretches
                self._report(passes, stretches)
                if facts["done"] or time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        self._network.load_state_dict(self._best)
        self._network.eval()
        return float(facts["least"])

    def _stretch(self, passes: int) -> None:
        """Some passes over the rows."""
        facts, (x, given) = self._facts, self._train
        rng = generator(self._seed, 4, facts["stretch"])
        torch.manual_seed(int(rng.integers(2**62)))
        self._network.train()
        rate = self._schedule.rate * FALL ** facts["falls"]
        values = list(self._network.state_dict().values())
        averages = [self._average[name] for name in self._network.state_dict()]
        for _ in range(passes):
            order = torch.from_numpy(rng.permutation(len(x)))
            for rows in order.split(self._schedule.batch):
                facts["step"] += 1
                for group in self._optimizer.param_groups:
                    group["lr"] = rate * min(1.0, facts["step"] / WARM_UP)
                loss = self._loss(x[rows], given[rows])
                self._optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self._network.parameters(), CLIP)
                self._optimizer.step()
                weight = 1 - min(AVERAGING, facts["step"] / (10 + facts["step"]))
                torch._foreach_lerp_(averages, values, weight)
        facts["stretch"] += 1

    def _evaluate(self) -> None:
        """Scores the averaged weights; keeps the best, and lets the rate fall where they stay the best."""
        facts = self._facts
        present = copy.deepcopy(self._network.state_dict())
        self._network.load_state_dict(self._average)
        self._network.eval()
        with torch.no_grad():
            loss = self._score(*self._valid)
        self._network.load_state_dict(present)
        if loss < facts["least"] - 1e-4 or not np.isfinite(facts["least"]):
            facts["least"], facts["stale"] = loss, 0
            self._best = copy.deepcopy(self._average)
            return
        facts["stale"] += 1
        if facts["stale"] >= self._schedule.patience:
            facts["stale"], facts["falls"] = 0, facts["falls"] + 1
            self._network.load_state_dict(self._best)
            self._average = copy.deepcopy(self._best)

    def _report(self, passes: int, stretches: int) -> None:
        facts = self._facts
        part = facts["falls"] + min(1.0, facts["stretch"] / stretches)
        done = max(facts["stretch"] / stretches, facts["falls"] / FALLS, part / (FALLS + 1))
        self._run.progress(done, f"epoch {facts['stretch'] * passes}, held-out {facts['least']:.3f} nats")

    def _save(self) -> None:
        if self._run.checkpoint is None:
            return
        state = {}
        for part, values in (
            ("now", self._network.state_dict()),
            ("average", self._average),
            ("best", self._best),
        ):
            state.update({f"{part}.{name}": value.numpy() for name, value in values.items()})
        for index, moments in self._optimizer.state_dict()["state"].items():
            state.update({f"adam.{index}.{name}": value.numpy() for name, value in moments.items()})
        self._run.save(state, self._facts)

    def _resume(self) -> None:
        kept = self._run.load()
        if kept is None:
            return
        state, facts = kept
        if facts["least"] is None:
            facts["least"] = float("inf")
        self._facts = facts
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "average": {}, "best": {}, "adam": {}}
        for key, array in state.items():
            part, name = key.split(".", 1)
            parts[part][name] = torch.from_numpy(array.copy())
        self._network.load_state_dict(parts["now"])
        self._average, self._best = parts["average"], parts["best"]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["adam"].items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
