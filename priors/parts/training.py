"""Training a small network on codes: averaged weights, a rate that falls when held-out codes stop gaining.

An evaluation takes place after every pass over the rows, but after no fewer than ``FEWEST`` steps and no more
than ``MOST``. It scores the exponential average of the weights. After ``patience`` evaluations that together gain
less than a share of the tolerance (:mod:`.stopping`) the best weights come back and the learning rate falls by
``FALL``; the next such time after ``FALLS`` falls ends training with the best weights. Where the steps allowed run
out first, the falls come by ``DEADLINES`` of them.

Every stretch between evaluations seeds its own randomness, so a fit that was killed continues from its
checkpoint to the same weights; one that an exception stops leaves its last stretch there. The global generator
is put back as it was.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from priors.arrays import Bits, Float64
from priors.fit import Fit, Rows, marginals
from priors.parts.numerics import log_odds
from priors.parts.stopping import FALL_SHARE, least_gain
from priors.parts.training_options import TrainingOptions
from priors.randomness import generator
from priors.storage import State, part

FEWEST, MOST = 100, 1000  # steps between evaluations
FALL, FALLS = 0.3, 2
DEADLINES = (0.6, 0.85)  # shares of the steps allowed
AVERAGING = 0.998
CLIP = 5.0
WARM_UP = 100  # steps
SAVE_SECONDS = 20.0
RATE = 2e10  # multiplications a second, on two cores
STEP = 2e7  # the calls of a step take as long as so many multiplications
UPDATE = 30.0  # a step of AdamW, of the average and of the masks takes as long as so many multiplications


def sign_tensor(bits: Bits | None, rows: int) -> Tensor:
    """Bits as float (N, D) of −1 and 1; (N, 0) where there are none."""
    if bits is None:
        return torch.zeros(rows, 0)
    return torch.from_numpy(bits).float() * 2 - 1


def arrays(values: Mapping[str, Tensor], prefix: str = "") -> State:
    """Copies of tensors as arrays, ``prefix`` before their names."""
    return {prefix + name: value.numpy().copy() for name, value in values.items()}


def tensors(state: State, prefix: str = "") -> dict[str, Tensor]:
    """The tensors that :func:`arrays` copied."""
    return {name: torch.from_numpy(array.copy()) for name, array in part(state, prefix).items()}


def step_work(network: nn.Module, forward: float, train: int, valid: int, batch: int) -> float:
    """Multiplications of a training step, with its part of the evaluations.

    Arguments:
        network: The network, whose parameters cost ``UPDATE`` each.
        forward: Multiplications of one row.
        train, valid: Rows.
        batch: Rows of a step.
    """
    update = UPDATE * sum(p.numel() for p in network.parameters())
    stretch = np.clip(-(-train // batch), FEWEST, MOST)
    return float(STEP + 3 * min(batch, train) * forward + update + valid / stretch * forward)


def marginal_log_odds(bits: Bits) -> Tensor:
    """The log-odds (D,) of the smoothed marginals of bits (N, D)."""
    return torch.from_numpy(log_odds(marginals(bits)))


class NetworkTrainer:
    """Trains a network to the least mean loss on held-out rows.

    Arguments:
        network: Trained in place; ends in evaluation mode with the best weights.
        loss: Signs (N, D) and given signs (N, G) to a mean loss, with torch's own randomness.
        score: Held-out signs and given signs to the loss of each row, float64 (M,), without randomness.
        train, valid: Rows.
        options: Options of the training; ``minutes`` counts through ``most_steps`` alone.
        most_steps: The most steps, in addition to ``epochs``.
        seed: Seed of the rows' order, of dropout and of masks.
        fit: Progress and checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        score: Callable[[Tensor, Tensor], Float64],
        train: Rows,
        valid: Rows,
        options: TrainingOptions,
        most_steps: int,
        seed: int,
        fit: Fit,
    ) -> None:
        self._network, self._loss, self._score = network, loss, score
        self._train = sign_tensor(train.bits, len(train)), sign_tensor(train.given, len(train))
        self._valid = sign_tensor(valid.bits, len(valid)), sign_tensor(valid.given, len(valid))
        self._options, self._seed, self._fit = options, seed, fit
        self._passes = -(-len(train) // options.batch)  # steps of a pass
        self._most = min(options.epochs * self._passes, most_steps)
        self._limit = "epochs" if options.epochs * self._passes <= most_steps else "minutes"
        self._trained = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._trained, lr=options.rate, weight_decay=options.decay, fused=True
        )
        self._average = copy.deepcopy(network.state_dict())
        self._best = copy.deepcopy(network.state_dict())
        self._facts: dict[str, Any] = {
            "stretch": 0, "step": 0, "least": float("inf"), "mark": float("inf"), "stale": 0, "falls": 0, "done": "",
        }  # fmt: skip
        self._checkpoint: tuple[State, dict[str, Any]] | None = None

    def train(self) -> tuple[int, str]:
        """Trains to the end, from the checkpoint where there is one.

        Returns:
            The steps taken, and what ended them: ``tolerance``, ``epochs`` or ``minutes``.
        """
        self._resume()
        saved, facts = time.monotonic(), self._facts
        try:
            with torch.random.fork_rng(devices=[]):
                if not np.isfinite(facts["least"]):
                    self._evaluate()  # what training starts from may stay the best
                while not facts["done"] and facts["step"] < self._most:
                    self._stretch()
                    self._evaluate()
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save()
                        saved = time.monotonic()
            if not facts["done"]:
                facts["done"] = self._limit
            self._take()
        finally:
            self._save()
        self._network.load_state_dict(self._best)
        self._network.eval()
        return int(facts["step"]), str(facts["done"])

    def _stretch(self) -> None:
        """The steps until the next evaluation."""
        facts, (x, given) = self._facts, self._train
        seed = int(generator(self._seed, 4, facts["stretch"]).integers(2**62))
        torch.manual_seed(seed)
        self._network.train()
        rate = self._options.rate * FALL ** facts["falls"]
        values = list(self._network.state_dict().values())
        averages = [self._average[name] for name in self._network.state_dict()]
        length = int(np.clip(self._passes, FEWEST, MOST))
        order, of = torch.empty(0, dtype=torch.long), -1
        for step in range(facts["step"], min(facts["step"] + length, self._most)):
            epoch, at = divmod(step, self._passes)
            if epoch != of:
                order, of = torch.from_numpy(generator(self._seed, 10, epoch).permutation(len(x))), epoch
            rows = order[at * self._options.batch : (at + 1) * self._options.batch]
            for group in self._optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / WARM_UP)
            loss = self._loss(x[rows], given[rows])
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._trained, CLIP)
            self._optimizer.step()
            facts["step"] = step + 1
            self._report()
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
            losses = self._score(*self._valid)
        self._network.load_state_dict(present)
        loss = float(losses.mean())
        if loss < facts["least"] or not np.isfinite(facts["least"]):
            facts["least"] = loss
            self._best = copy.deepcopy(self._average)
        facts["stale"] += 1
        gain = least_gain(losses, FALL_SHARE * self._options.tolerance)
        if loss < facts["mark"] - gain or not np.isfinite(facts["mark"]):
            facts["mark"], facts["stale"] = loss, 0
        if facts["stale"] >= self._options.patience:
            self._network.load_state_dict(self._best)
            self._average = copy.deepcopy(self._best)
            facts["done"] = "tolerance" if facts["falls"] == FALLS else ""
            facts["stale"], facts["mark"] = 0, facts["least"]
            facts["falls"] = min(facts["falls"] + 1, FALLS)
        elif facts["falls"] < FALLS and facts["step"] >= DEADLINES[facts["falls"]] * self._most:
            facts["stale"], facts["falls"] = 0, facts["falls"] + 1
        self._take()

    def _report(self) -> None:
        facts = self._facts
        done = max(facts["step"] / self._most, facts["falls"] / (FALLS + 1))
        epochs = facts["step"] / self._passes
        self._fit.progress(done, f"epoch {epochs:.0f}, held-out {facts['least']:.3f} nats")

    def _take(self) -> None:
        """Takes the state at the end of a stretch, which is what a checkpoint holds."""
        if self._fit.checkpoint is None:
            return
        state = arrays(self._network.state_dict(), "now.")
        state |= arrays(self._average, "average.") | arrays(self._best, "best.")
        for index, moments in self._optimizer.state_dict()["state"].items():
            state |= arrays(moments, f"adam.{index}.")
        self._checkpoint = state, dict(self._facts)

    def _save(self) -> None:
        if self._checkpoint is not None:
            self._fit.save(*self._checkpoint)

    def _resume(self) -> None:
        self._checkpoint = self._fit.load()
        if self._checkpoint is None:
            return
        state, facts = self._checkpoint
        for name in ("least", "mark"):  # JSON holds no number for a loss that was none
            facts = {**facts, name: float("inf") if facts[name] is None else facts[name]}
        self._facts = dict(facts)
        self._network.load_state_dict(tensors(state, "now."))
        self._average, self._best = tensors(state, "average."), tensors(state, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors(state, "adam.").items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
