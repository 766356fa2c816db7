"""What a training step takes, measured: a few steps of the very trainer, on made-up images, in a process of their own.

The process ends with its figures, and with all memory that it took. Parameters and FLOPs are counted, not timed.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dmzcli.autoencoder import Autoencoder
from dmzcli.config import Config, parse

if TYPE_CHECKING:
    from dmzcli.trainer import Trainer

PATIENCE = 180.0
"""Seconds after which a measurement is given up."""
TIMED = 5
"""Most steps that are timed."""
LONG = 10.0
"""Seconds of timed steps after which no further one is begun."""


def flops(config: Config) -> int:
    """Floating-point operations of one image's forward and backward pass, a multiplication and an addition each.

    Counted over matrix products, convolutions and attention, on tensors without storage. What
    ``training.checkpoint_activations`` computes again is not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    size, channels = config.data.size, config.data.channels
    assert size is not None and channels is not None
    with torch.device("meta"):
        model = Autoencoder(config).train()
        x, t = torch.empty(2, channels, size, size), torch.zeros(2, dtype=torch.long)
        gumbel = torch.empty(2, model.dim, 2) if model.dim else None
    # Two images: batch norm has no moments of one value. Attention is written out, so that it is counted everywhere.
    kernel = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, kernel:
        model(x, x, t, gumbel).sum().backward()
    return int(counter.get_total_flops()) // 2


def measure(config: Config, device: str | None = None) -> dict[str, Any]:
    """Runs a few steps in a process of their own.

    Arguments:
        config: Resolved.
        device: As the commands name it.

    Returns:
        ``device``, ``steps`` timed, ``seconds_per_1000_steps`` (a thousand times their median), and
        ``memory_bytes`` by kind; or ``why_not`` alone, where the process did not come to its end.
    """
    task = json.dumps({"config": config.model_dump(mode="json"), "device": device})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dmzcli.measuring"],
            input=task,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return {"why_not": f"a few steps take more than {PATIENCE:.0f} seconds here"}
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
    inner = getattr(trainer.optimiser, "optimizer", trainer.optimiser)
    states = [value for state in inner.state.values() for value in state.values()]
    weights = sum(parameter.nbytes for parameter in trainer.bare.parameters())
    average = sum(parameter.nbytes for parameter in trainer.average.model.parameters())
    return {
        "weights": weights,
        "gradients": weights,
        "optimiser": sum(value.nbytes for value in states if isinstance(value, torch.Tensor)),
        "average": average,
    }


def _highest(device: torch.device) -> int:
    """The most memory that was held so far: on the device, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _steps(config: Config, device: str | None) -> dict[str, Any]:
    """The measurement itself; for a process that does nothing else."""
    from dmzcli.data import Dataset
    from dmzcli.runs import Run
    from dmzcli.trainer import Trainer, accelerator

    size, channels, batch = config.data.size, config.data.channels, config.training.batch_size
    assert size is not None and channels is not None
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, channels), np.uint8)
    data = Dataset(images=images, split=np.zeros(batch, np.uint8), name="noise", identity="noise")
    engine = accelerator(device, config.training.precision)
    trainer = Trainer(config, data, Run(Path("unused")), engine)
    # The libraries load code when they are first used (or compile it): two images do that, and leave nothing behind.
    x, t = torch.zeros(2, channels, size, size, device=engine.device), torch.zeros(2, device=engine.device)
    gumbel = torch.zeros(2, trainer.dim, 2, device=engine.device) if trainer.dim else None
    with engine.autocast():
        trainer.bare.train()(x, x, t.long(), gumbel).sum().backward()
    trainer.optimiser.zero_grad(set_to_none=True)
    before = _highest(engine.device)
    seconds: list[float] = []
    for step in range(2 + TIMED):
        start = time.perf_counter()
        trainer.train_step()
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        if step > 1:
            seconds.append(time.perf_counter() - start)
        if sum(seconds) > LONG:
            break
    memory = _held(trainer)
    # Before the first step there were weights and their average; the peak came on top, with the optimiser's state.
    grown = _highest(engine.device) - before
    memory["activations"] = max(0, grown - memory["optimiser"] - memory["gradients"])
    return {
        "device": str(engine.device),
        "steps": len(seconds),
        "seconds_per_1000_steps": 1000 * statistics.median(seconds),
        "memory_bytes": memory,
    }


if __name__ == "__main__":
    task = json.load(sys.stdin)
    print(json.dumps(_steps(parse(task["config"], "the settings"), task["device"])))
