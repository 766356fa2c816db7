"""Scores of the spacings at few steps, on the same noise and codes, and the tuned ones' differences to the others.

    dmz tune-steps --run RUN --steps 4 --sampler unipc          # once for each sampler
    python benchmarks/spacings.py RUN --prior chow-liu-mixture --seed 1 --out scores.json
    python benchmarks/spacings.py --table scores.json [SCORES.json …]

Codes are drawn from a prior, or are the most probable ones of real test images, and image i has noise i in every cell,
so that differences are paired. Timesteps of any name can be among the spacings, as NAME=0,250,500,999. The reference is
the train split, in features that are trained on valid; or, with ``--split test``, the test split in features that are
trained on train. Cells that are in ``--out`` already are kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from machine import cores

from dmzcli.codes.draw import draw_bits
from dmzcli.codes.encode import bits_of
from dmzcli.commands.options import dataset_options
from dmzcli.data import load
from dmzcli.data.dataset import spread
from dmzcli.evaluation.card import versions
from dmzcli.evaluation.features import create, reference_of
from dmzcli.evaluation.scores import Score, difference, frechet
from dmzcli.evaluation.sources import usual_features
from dmzcli.generation.decode import decode
from dmzcli.generation.recipe import Recipe
from dmzcli.runs import Run
from dmzcli.system.progress import Silence

SPACINGS = ("trailing", "uniform", "tuned", "log-snr", "quadratic", "leading")


def measure(arguments: argparse.Namespace) -> None:
    """Adds the cells of one run that are not there yet."""
    file = Path(arguments.out)
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"cells": {}}
    run = Run(Path(arguments.run))
    model = run.load_model(torch.device("cpu"))
    data = run.config.data
    if arguments.data_dir:
        data = data.model_copy(update={"data_dir": arguments.data_dir})
    dataset = load(data.dataset, **dataset_options(data, False), cache=True)
    split, count = arguments.split, arguments.count
    extractor = create(usual_features(dataset, split), dataset, model.device, talk=Silence())
    reference = reference_of(extractor, dataset, split, 256, Silence())
    if arguments.prior:
        bits = draw_bits(run, model.dim, arguments.prior, count, arguments.seed).bits
    else:
        assert split == "train", "bits of test images are no match for the test split: name a --prior"
        rows = spread(dataset.rows("test"), count)
        assert len(rows) == count, f"there are only {len(rows):,} test images"
        bits = bits_of(model, dataset.images[rows]) if model.dim else None
    kept |= {
        "run": run.path.name,
        "weights": run.weights_hash,
        "bits": arguments.prior or "test images",
        "count": count,
        "seed": arguments.seed,
        "reference": f"{dataset.identity} {split}",
        "features": f"{extractor.name} {extractor.sha256[:8]}",
        "metric": extractor.metric("fid"),
        "versions": versions(),
        "device": f"CPU, {torch.get_num_threads()} thread, {cores()} cores",
    }
    for steps in arguments.steps:
        for spacing in arguments.spacings:
            for sampler in arguments.samplers:
                called, _, numbers = spacing.partition("=")
                recipe = Recipe(sampler, steps, called, precision=arguments.precision)
                if numbers:
                    recipe = replace(recipe, timesteps=tuple(map(int, numbers.split(","))))
                elif spacing == "tuned":
                    recipe = recipe.of(run)
                name = f"{sampler} T={steps} {called}"
                at = recipe.create(run.config.diffusion)
                where = at.process.timesteps.tolist()
                if kept["cells"].get(name, {}).get("timesteps") == where:
                    continue
                images = decode(model, bits, at, range(count), arguments.seed, 64, precision=recipe.precision)
                features, _ = extractor(images, 256)
                score = frechet(features, reference.moments, extractor.metric("fid"))
                kept["cells"][name] = {
                    "timesteps": where,
                    "value": score.value,
                    "left_out": list(score.left_out),
                }
                file.write_text(json.dumps(kept), encoding="utf-8")
                print(
                    f"{run.path.name} {name} {where}: {score.value:.2f} ± {1.96 * score.error:.2f}",
                    flush=True,
                )


def tabulate(files: list[str]) -> None:
    """Prints a table of each file's cells."""
    for file in files:
        kept = json.loads(Path(file).read_text(encoding="utf-8"))
        print(f"\n{kept['run']}, {kept['count']:,} images, {kept['metric']} against {kept['reference']}\n")
        print(
            "| sampler | T | spacing | timesteps | score | beyond tuned, paired |\n|---|---|---|---|---|---|"
        )
        scores = {
            name: Score.jackknifed(kept["metric"], cell["value"], cell["left_out"])
            for name, cell in kept["cells"].items()
        }
        for name in sorted(scores, key=lambda n: (n.rsplit(" ", 1)[0], scores[n].value)):
            how, spacing = name.rsplit(" ", 1)
            sampler, steps = how.split(" T=")
            score, tuned, beyond = scores[name], scores.get(f"{how} tuned"), ""
            if tuned is not None and spacing != "tuned":
                gap = difference(score, tuned)
                beyond = f"{gap.value:+.2f} ± {1.96 * gap.error:.2f}"
            where = ", ".join(map(str, kept["cells"][name]["timesteps"]))
            shown = f"{score.value:.2f} ± {1.96 * score.error:.2f}"
            print(f"| `{sampler}` | {steps} | {spacing} | {where} | {shown} | {beyond} |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?")
    parser.add_argument("--out", default="scores.json")
    parser.add_argument("--table", nargs="+")
    parser.add_argument("--prior")
    parser.add_argument("--split", default="train", choices=("train", "test"))
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--steps", type=int, nargs="+", default=[4])
    parser.add_argument("--samplers", nargs="+", default=["unipc", "ddim"])
    parser.add_argument("--spacings", nargs="+", default=list(SPACINGS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tabulate(arguments.table) if arguments.table else measure(arguments)


if __name__ == "__main__":
    main()
