"""Training speed of a preset on this device, by switch, and its share of the device's measured matrix peak.

Every variant is the trainer itself, from the random numbers of a step to the averaged weights, on made-up images that
lie on the device; rounds alternate. The FLOPs are those of matrix products, convolutions and attention, forward and
backward; the peak is the best of some large matrix products in the same precision.

    python benchmarks/training.py --preset cifar10 --batch-size 128 --precision bf16
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from machine import matrix_peak, wait, words

from dmzcli.config import parse, preset
from dmzcli.data import Dataset
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


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="cifar10", choices=sorted(SHAPES))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--precision", default="bf16", choices=["no", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="of a round")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--device")
    arguments = parser.parse_args()
    tree = preset(arguments.preset)
    tree["training"]["precision"] = arguments.precision
    if arguments.batch_size:
        tree["training"]["batch_size"] = arguments.batch_size
    config = parse(tree, "preset").resolved(*SHAPES[arguments.preset])
    size, channels, batch = config.data.size, config.data.channels, config.training.batch_size
    images = np.random.default_rng(0).integers(0, 256, (4 * batch, size, size, channels), np.uint8)
    data = Dataset(images=images, split=np.zeros(len(images), np.uint8), name="noise", identity="noise")
    trainers: dict[str, Trainer] = {}
    for name in arguments.variants:
        changed = config.model_copy(update={"training": config.training.model_copy(update=VARIANTS[name])})
        engine = accelerator(arguments.device, arguments.precision)
        trainers[name] = Trainer(changed, data, Run(Path("unused")), engine)
    device = engine.device
    peak, each = matrix_peak(device, arguments.precision), flops(config)
    print(
        f"{words(device)}, preset {arguments.preset}, "
        f"{sum(p.numel() for p in trainers[name].bare.parameters()):,} parameters, batch {batch}, "
        f"precision {arguments.precision}, {arguments.rounds} alternating rounds of {arguments.steps} steps, seed 0; "
        f"{each / 1e9:.2f} GFLOP an image, matrix peak {peak / 1e12:.2f} TFLOP/s\n"
    )
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    starts: dict[str, float] = {}
    for name, trainer in trainers.items():
        start = time.perf_counter()
        for _ in range(2):
            trainer.train_step()
        wait(device)
        starts[name] = time.perf_counter() - start
    for _ in range(arguments.rounds):
        for name, trainer in trainers.items():
            start = time.perf_counter()
            for _ in range(arguments.steps):
                trainer.train_step()
            wait(device)
            seconds[name].append((time.perf_counter() - start) / arguments.steps)
    first = arguments.variants[0]
    print(
        f"| variant | images/s, median | slowest - fastest round | times {first} | of the peak | first 2 steps, s |"
    )
    print("|---|---|---|---|---|---|")
    for name, taken in seconds.items():
        rates = sorted(batch / s for s in taken)
        ratio = statistics.median(a / b for a, b in zip(seconds[first], taken, strict=True))
        rate = statistics.median(rates)
        print(
            f"| {name} | {rate:.1f} | {rates[0]:.1f} - {rates[-1]:.1f} | {ratio:.2f} | {rate * each / peak:.1%} "
            f"| {starts[name]:.1f} |"
        )


if __name__ == "__main__":
    main()
