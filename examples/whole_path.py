"""The whole path from Python: train on the digits, encode, fit a prior, decode its samples, probe.

python examples/whole_path.py --steps 500 --out digits.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import priors
from dmzcli import data
from dmzcli.analysis.probes.table import probe_table
from dmzcli.codes.encode import encode
from dmzcli.config import assignments, merge, parse, preset
from dmzcli.diffusion.samplers import create
from dmzcli.generation.decode import decode
from dmzcli.runs import Run
from dmzcli.system.png import grid, write_png
from dmzcli.training import train


def main() -> None:
    """Runs the path and writes a grid."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--run", type=Path, default=Path("runs/whole-path"))
    parser.add_argument("--out", type=Path, default=Path("digits.png"))
    arguments = parser.parse_args()

    # Settings are nested tables; a later one wins. Resolving fills in what depends on the images' size.
    settings = merge(preset("digits"), assignments([f"training.steps={arguments.steps}"]))
    images = data.load("digits")
    config = parse(settings, "this example").resolved(*images.images.shape[2:])

    run = Run(arguments.run)
    outcome = train(config, images, run)  # the same call again resumes
    print(f"trained {outcome.step} steps, validation loss {outcome.valid_loss:.4f}")

    device = torch.device("cpu")
    model = run.load_model(device)
    table = encode(model, images, run.bits, run.weights_hash).table

    # A prior sees nothing but bits.
    prior = priors.create("mixture", dim=table.dim, seed=0)
    report = prior.fit(table.bits[table.rows("train")], valid=table.bits[table.rows("valid")])
    print(f"{report.valid_bits_per_code:.1f} held-out bits per code of {table.dim}")

    # Image i depends on (seed, i) and its bits alone.
    sampler = create("ancestral", config.diffusion, steps=20)
    made = decode(model, prior.sample(100, seed=0), sampler, range(100), seed=0)
    write_png(arguments.out, grid(made))

    for result in probe_table(table, images, config, device):
        print(f"{result.name}: {result.test_accuracy:.3f} test accuracy")


if __name__ == "__main__":
    main()
