"""Training speed of a preset on this device, by switch, and its share of the device's measured matrix peak.

Every variant is the trainer itself, from the random numbers of a step to the averaged weights, on made-up images that
lie on the device; rounds alternate. Variants that the memory does not hold are left out; what compiling takes is in the
last column. The FLOPs are those of matrix products, convolutions and attention, forward and backward; the peak is the
best of some large matrix products in the same precision.

    python benchmarks/training.py --preset cifar10 --batch-size 128 512 --precision bf16
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from machine import matrix_peak, wait, words

from dmzcli.config import Config, parse, preset
from dmzcli.data import Dataset
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.training.cost import flops
from dmzcli.training.engine import accelerator
from dmzcli.training.trainer import Trainer

SHAPES = {
    "digits": (8, 1),
    "fashion-mnist": (32, 1),
    "cifar10": (32, 3),
    "cifar10-small": (32, 3),
    "celeba": (64, 3),
}
VARIANTS = {
    "plain": {},
    "channels last": {"channels_last": True},
    "compiled": {"compile": True},
    "compiled, channels last": {"compile": True, "channels_last": True},
    "checkpointed activations": {"checkpoint_activations": True},
}


def rows(
    config: Config,
    batch: int,
    variants: Sequence[str],
    precision: str,
    device: str | None,
    rounds: int,
    steps: int,
) -> Iterator[tuple[str, list[float], float]]:
    """Seconds of a step in every round, and of the first two steps, of each variant that the memory holds."""
    training = config.training.model_copy(update={"batch_size": batch})
    config = config.model_copy(update={"training": training})
    size, channels = config.data.size, config.data.channels
    images = np.random.default_rng(0).integers(0, 256, (4 * batch, size, size, channels), np.uint8)
    data = Dataset(images=images, split=np.zeros(len(images), np.uint8), name="noise", identity="noise")
    trainers: dict[str, Trainer] = {}
    starts: dict[str, float] = {}
    for name in variants:
        changed = config.model_copy(update={"training": training.model_copy(update=VARIANTS[name])})
        start = time.perf_counter()
        try:
            trainer = Trainer(changed, data, Run(Path("unused")), accelerator(device, precision))
            for _ in range(2):
                trainer.train_step()
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            continue
        wait(trainer.engine.device)
        trainers[name], starts[name] = trainer, time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            start = time.perf_counter()
            for _ in range(steps):
                trainer.train_step()
            wait(trainer.engine.device)
            seconds[name].append((time.perf_counter() - start) / steps)
    yield from ((name, seconds[name], starts[name]) for name in trainers)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="cifar10", choices=sorted(SHAPES))
    parser.add_argument("--batch-size", type=int, nargs="+")
    parser.add_argument("--precision", default="bf16", choices=["no", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="of a round")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--device")
    arguments = parser.parse_args()
    tree = preset(arguments.preset)
    tree["training"]["precision"] = arguments.precision
    config = parse(tree, "preset").resolved(*SHAPES[arguments.preset])
    device = accelerator(arguments.device, arguments.precision).device
    peak, each = matrix_peak(device, arguments.precision), flops(config)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Autoencoder(config).parameters())
    print(
        f"{words(device)}, preset {arguments.preset}, {parameters:,} parameters, precision {arguments.precision}, "
        f"{arguments.rounds} alternating rounds of {arguments.steps} steps, seed 0; "
        f"{each / 1e9:.2f} GFLOP an image, matrix peak {peak / 1e12:.2f} TFLOP/s\n"
    )
    first = arguments.variants[0]
    print(
        f"| batch | variant | images/s, median | slowest - fastest round | times {first} | of the peak "
        "| first 2 steps, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for batch in arguments.batch_size or [config.training.batch_size]:
        plain: list[float] | None = None
        options = (arguments.precision, arguments.device, arguments.rounds, arguments.steps)
        for name, taken, begun in rows(config, batch, arguments.variants, *options):
            plain = taken if name == first else plain
            rates = sorted(batch / s for s in taken)
            ratio = statistics.median(a / b for a, b in zip(plain, taken, strict=True)) if plain else math.nan
            rate = statistics.median(rates)
            print(
                f"| {batch} | {name} | {rate:.1f} | {rates[0]:.1f} - {rates[-1]:.1f} | {ratio:.2f} "
                f"| {rate * each / peak:.1%} | {begun:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
