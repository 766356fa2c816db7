"""What a training step takes, measured: a few steps of the very trainer, on made-up images, in a process of their own.

The process ends with its figures, and with all memory that it took. Parameters and FLOPs are counted, not timed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from dmzcli.config import Config, parse
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.devices import pick
from dmzcli.training.engine import accelerator, settled_precision
from dmzcli.training.feed import room
from dmzcli.training.trainer import Trainer

PATIENCE = 20.0
"""Seconds after which a measurement ends, with the steps that it has timed by then."""
TIMED = 5
"""Most steps that are timed."""
LONG = 5.0
"""Seconds of timed steps after which no further one is begun."""


def flops(config: Config) -> int:
    """Floating-point operations of one image's forward and backward pass, a multiplication and an addition each.

    Counted over matrix products, convolutions and attention, on tensors without storage. What
    ``training.checkpoint_activations`` computes again is not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = Autoencoder(config).train()
        x, t = torch.empty(2, *model.shape), torch.zeros(2, dtype=torch.long)
        noise = torch.empty(2, *model.latent.noise_shape)
    # Two images: batch norm has no moments of one value. Attention is written out, so that it is counted everywhere.
    kernel = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, kernel:
        model(x, x, t, noise).sum().backward()
    return int(counter.get_total_flops()) // 2


def estimate(config: Config) -> dict[str, Any]:
    """Parameters, and the memory that training takes, without training.

    Activations are what one training step keeps for its backward pass in float32, with the switches
    ``training.accumulate`` and ``training.checkpoint_activations``, counted by running the step's forward pass on
    tensors without storage. The framework's own overhead comes on top.

    Returns:
        ``parameters``, and ``memory_bytes`` by kind.
    """

    with torch.device("meta"):
        model = Autoencoder(config).train()
        model.backbone.checkpointing = config.training.checkpoint_activations
        batch = config.training.batch_size
        x, t = torch.empty(batch, *model.shape), torch.zeros(batch, dtype=torch.long)
        noise = torch.empty(batch, *model.latent.noise_shape)
    kept = Kept(model)
    with kept.hooks():
        codes, part = model.codes(x, noise), slice(batch // config.training.accumulate)
        model(x[part], x[part], t[part], codes=None if codes is None else codes[part])
    size_of_weights = sum(parameter.nbytes for parameter in model.parameters())
    memory = {"weights": size_of_weights, "gradients": size_of_weights, "optimiser": 2 * size_of_weights}
    memory |= {"average": size_of_weights, "activations": kept.most}
    return {"parameters": sum(p.numel() for p in model.parameters()), "memory_bytes": memory}


def forecast(
    config: Config, device: str | None = None, measured: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What training takes: parameters and FLOPs counted, memory and time measured on a few steps.

    Where the step does not fit in the memory that is free here, or the measurement fails, memory is that of
    :func:`estimate`, and there is no time.

    Arguments:
        config: Resolved.
        device: As the commands name it.
        measured: What :func:`measure` has said already, if it has.

    Returns:
        ``parameters``, ``flops_per_image``, ``memory_bytes`` by kind, ``measured``, ``device``, ``steps``,
        ``seconds_per_1000_steps`` and ``why_not``, the last three ``None`` where they do not apply.

    Raises:
        UserError: There is no such device.
    """
    chosen = pick(device)
    facts = {**estimate(config), "flops_per_image": flops(config)}
    if settled_precision(config, device).precision == "bf16":
        facts["memory_bytes"]["activations"] //= 2  # most of them; a step that may fit is measured
    facts |= {"device": str(chosen), "steps": None, "seconds_per_1000_steps": None, "why_not": None}
    needed, free = sum(facts["memory_bytes"].values()), 2 * room(chosen)
    if needed > free:
        lacks = f"a step takes about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free on {chosen}"
        return {**facts, "measured": False, "why_not": lacks}
    measured = measured or measure(config, device)
    return {**facts, **measured, "measured": "why_not" not in measured}


def measure(config: Config, device: str | None = None) -> dict[str, Any]:
    """Runs a few steps in a process of their own.

    Arguments:
        config: Resolved.
        device: As the commands name it.

    Returns:
        ``device``, ``steps`` timed, ``seconds_per_1000_steps`` (a thousand times their median), and
        ``memory_bytes`` by kind, of the steps that were done in :data:`PATIENCE` seconds; or ``why_not`` alone, where
        none was.
    """
    task = json.dumps({"config": config.model_dump(mode="json"), "device": device})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dmzcli.training.cost"],
            input=task,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or ""  # bytes, or on Windows text
        lines = (said.decode() if isinstance(said, bytes) else said).splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        return (
            json.loads(whole[-1])
            if whole
            else {"why_not": f"a step takes more than {PATIENCE:.0f} seconds here"}
        )
    if done.returncode < 0:
        return {
            "why_not": f"the measurement was killed by signal {-done.returncode}, perhaps for want of memory"
        }
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        return {"why_not": f"a step failed: {''.join(last)}"}
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def _held(trainer: Trainer) -> dict[str, int]:
    """Bytes of the tensors that live from step to step, and of the gradients, which are as large as the weights."""
    weights = sum(parameter.nbytes for parameter in trainer.bare.parameters())
    average = sum(parameter.nbytes for parameter in trainer.average.model.parameters())
    return {
        "weights": weights,
        "gradients": weights,
        "optimiser": sum(moment.nbytes for moment in trainer.optimizer.state().values()),
        "average": average,
    }


class Kept:
    """Counts the bytes that autograd keeps for the backward pass; parameters are not among them.

    Storages are known by their objects and not by their addresses, which those of the ``meta`` device have not.

    Arguments:
        model: The model, whose parameters are left out.

    Attributes:
        most: The most bytes that were kept at one time, while the hooks were in place.
    """

    def __init__(self, model: nn.Module) -> None:
        self._known = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self._uses: Counter[int] = Counter()
        self._bytes, self.most = 0, 0

    def hooks(self) -> saved_tensors_hooks:
        """In whose context a step is counted."""
        return saved_tensors_hooks(lambda tensor: _Held(self, tensor), lambda held: held.tensor)

    def add(self, tensor: Tensor) -> None:
        """Another use of a tensor's storage."""
        storage = tensor.untyped_storage()
        if (key := storage._cdata) not in self._known:
            self._bytes += 0 if self._uses[key] else storage.nbytes()
            self._uses[key] += 1
            self.most = max(self.most, self._bytes)

    def remove(self, tensor: Tensor) -> None:
        """One use less."""
        storage = tensor.untyped_storage()
        if (key := storage._cdata) not in self._known:
            self._uses[key] -= 1
            self._bytes -= 0 if self._uses[key] else storage.nbytes()


class _Held:
    """A tensor while the backward pass needs it."""

    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self._kept, self.tensor = kept, tensor
        kept.add(tensor)

    def __del__(self) -> None:
        self._kept.remove(self.tensor)


def _steps(config: Config, device: str | None) -> Iterator[dict[str, Any]]:
    """The measurement itself, for a process that does nothing else: the figures after each step."""
    from dmzcli.data import Dataset
    from dmzcli.runs import Run

    (channels, height, width), batch = config.shape, config.training.batch_size
    images = np.random.default_rng(0).integers(0, 256, (batch, height, width, channels), np.uint8)
    data = Dataset(images=images, split=np.zeros(batch, np.uint8), name="noise", identity="noise")
    engine = accelerator(device, settled_precision(config, device).precision)
    trainer = Trainer(config, data, Run(Path("unused")), engine)

    def timed() -> float:
        start = time.perf_counter()
        trainer.train_step()
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        return time.perf_counter() - start

    kept = Kept(trainer.bare)
    with kept.hooks():
        first = timed()
    facts: dict[str, Any] = {"device": str(engine.device), "warm": False}
    facts["memory_bytes"] = {**_held(trainer), "activations": kept.most}
    yield {**facts, "steps": 1, "seconds_per_1000_steps": 1000 * first}
    timed()  # as the later ones are
    seconds: list[float] = []
    while len(seconds) < TIMED and sum(seconds) < LONG:
        seconds.append(timed())
        pace = 1000 * statistics.median(seconds)
        yield {**facts, "warm": True, "steps": len(seconds), "seconds_per_1000_steps": pace}


if __name__ == "__main__":
    task = json.load(sys.stdin)
    for figures in _steps(parse(task["config"], "the settings"), task["device"]):
        print(json.dumps(figures), flush=True)
