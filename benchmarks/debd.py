"""Every prior on standard binary density-estimation sets, beside published figures.

The folder holds one ``<set>.npz`` per data set: ``train``, ``valid`` and ``test`` as big-endian
``numpy.packbits`` rows, and ``dim``. Every choice is made on valid; test is looked at once, by the prior that is
reported. Figures are mean log-likelihoods in nats per row of test, higher is better; those of kinds that are not
exact are lower bounds. Measurements are kept in a JSON file beside the table, so that kinds and sets can be run one
at a time; the table is written anew after each.

    python benchmarks/debd.py FOLDER --out benchmarks/results/debd.md
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(sys.path[0])
sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder's priors.py is not the package

import priors  # noqa: E402

# Independent bits and Chow-Liu trees; mixtures of trees (MT); the best published of a tractable model, with its source.
# All are recalled from the papers; none was looked up again.
PUBLISHED: dict[str, tuple[float | None, float | None, float | None, float, str]] = {
    "nltcs": (-9.23, -6.76, -6.01, -5.99, "CM"),
    "plants": (-31.27, -16.52, -12.95, -12.26, "CM"),
    "baudio": (-49.34, -44.37, -40.08, -39.02, "CM"),
    "dna": (-100.39, -87.70, -85.14, -79.05, "HCLT"),
    "accidents": (None, None, None, -26.74, "HCLT"),
    "bnetflix": (None, None, None, -55.31, "CM"),
}
NAMES = ("independent", "Chow-Liu", "mixture of trees", "best published")
SOURCES = {
    "MT": "mixture of trees, Rahman, Kothalkar and Gogate 2014",
    "CM": "continuous mixtures of tractable models, Correia et al. 2023, arXiv 2209.10584",
    "HCLT": "hidden Chow-Liu trees with regularization, Liu and Van den Broeck 2021, arXiv 2106.02264",
}
# Settings away from the defaults; whatever they leave open is chosen on valid.
SETTINGS: dict[str, dict[str, Any]] = {}


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The train, valid and test codes of a set, uint8 (N, D)."""
    with np.load(path) as file:
        dim = int(file["dim"])
        parts = [np.unpackbits(file[name], axis=1, count=dim) for name in ("train", "valid", "test")]
    return parts[0], parts[1], parts[2]


def measure(kind: str, path: Path, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Fits one kind to one set and looks at test once."""
    train, valid, test = read(path)
    prior = priors.create(kind, dim=train.shape[1], seed=seed, **settings)
    start, spent = time.perf_counter(), time.process_time()
    report = prior.fit(train, valid=valid, progress=show)
    seconds, processor = time.perf_counter() - start, time.process_time() - spent
    print(" " * 100, end="\r")
    return {
        "set": path.stem,
        "dim": train.shape[1],
        "kind": kind,
        "exact": prior.exact,
        "test": float(prior.log_prob(test).mean()),
        "valid": report.valid_nats,
        "seconds": seconds,
        "processor": processor,
        "parameters": report.parameters,
        "settings": settings,
        "chosen": report.chosen,
        "seed": seed,
        "machine": machine(),
    }


def show(done: float, message: str) -> None:
    """One line that is written over."""
    print(f"{100 * done:5.1f} %  {message:<80}", end="\r", flush=True)


def machine() -> str:
    """Processor, cores and versions."""
    import torch

    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    for line in facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}"
    return f"{name}, {torch.get_num_threads()} threads; {versions}"


def published_cells(name: str) -> list[str]:
    """The published figures of a set; the best one with its source."""
    if name not in PUBLISHED:
        return ["–"] * len(NAMES)
    *plain, best, source = PUBLISHED[name]
    return [
        *("–" if value is None else f"{value:.2f}" for value in plain),
        f"{best:.2f} ({source}, recalled)",
    ]


def table(results: list[dict[str, Any]], command: str) -> str:
    """The Markdown of all measurements."""
    sets = sorted(
        {r["set"] for r in results}, key=lambda s: (list(PUBLISHED).index(s) if s in PUBLISHED else 99, s)
    )
    kinds = [kind for kind in priors.available() if any(r["kind"] == kind for r in results)]
    found = {(r["set"], r["kind"]): r for r in results}
    kinds.sort(key=lambda kind: np.mean([found[s, kind]["test"] for s in sets if (s, kind) in found]))
    # Of the measurements and not of the kinds: a kind may have become exact since.
    bounds = {r["kind"] for r in results if not r["exact"]}
    marks = {kind: f"{kind} (bound)" if kind in bounds else kind for kind in kinds}
    lines = [
        "# Binary density estimation: mean test log-likelihood, nats per row",
        "",
        "Higher is better. Every choice was made on valid; test was looked at once per figure. The published",
        "columns are: " + ", ".join(NAMES) + ".",
        "All of these are recalled from the papers and not looked up again. Their sources:",
        "",
        *(f"- {name}: {words}" for name, words in SOURCES.items()),
        "",
        "| | D | " + " | ".join((*(f"*{name}*" for name in NAMES), *marks.values())) + " |",
        "|---|---|" + "---|" * (len(NAMES) + len(kinds)),
    ]
    for s in sets:
        published = published_cells(s)
        ours = [f"{found[s, k]['test']:.3f}" if (s, k) in found else "–" for k in kinds]
        lines.append(
            f"| {s} | {next(r['dim'] for r in results if r['set'] == s)} | "
            + " | ".join(published + ours)
            + " |"
        )
    lines += [
        "",
        "## Fits",
        "",
        "Seconds by the clock, and in processor time of all cores together.",
        "",
        "| set | kind | valid | test | clock | processor | parameters | settings | chosen on valid |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for s in sets:
        for k in kinds:
            if (r := found.get((s, k))) is not None:
                words = [
                    ", ".join(f"{a}={b}" for a, b in r[key].items()) or "–" for key in ("settings", "chosen")
                ]
                lines.append(
                    f"| {s} | {marks[k]} | {r['valid']:.3f} | {r['test']:.3f} | {r['seconds']:.1f} | "
                    f"{r['processor']:.1f} | {r['parameters']:,} | {words[0]} | {words[1]} |"
                )
    for where in sorted({r["machine"] for r in results}):
        lines += ["", f"Measured on {where}; seed {', '.join(sorted({str(r['seed']) for r in results}))}."]
    lines += ["", f"Command: `{command}`", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="holds one <set>.npz per data set")
    parser.add_argument("--sets", nargs="+", help="names of sets; all of the folder by default")
    parser.add_argument(
        "--kinds", nargs="+", default=priors.available(), help="kinds of priors; all by default"
    )
    parser.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="KEY=VALUE", help="options of the kind"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="Markdown file; its measurements are kept beside it as .json"
    )
    arguments = parser.parse_args()
    kept = arguments.out.with_suffix(".json") if arguments.out else None
    results: list[dict[str, Any]] = (
        json.loads(kept.read_text(encoding="utf-8")) if kept and kept.exists() else []
    )
    files = [
        f for f in sorted(arguments.folder.glob("*.npz")) if not arguments.sets or f.stem in arguments.sets
    ]
    command = "python benchmarks/debd.py FOLDER" + (f" --out {arguments.out}" if arguments.out else "")
    for file in files:
        for kind in arguments.kinds:
            texts = dict(pair.split("=", 1) for pair in arguments.settings)
            settings = {**SETTINGS.get(kind, {}), **priors.parse_options(kind, texts)}
            result = measure(kind, file, arguments.seed, settings)
            print(
                f"{file.stem:8} {kind:18} test {result['test']:9.3f}  {result['seconds']:7.1f} s", flush=True
            )
            results = [r for r in results if (r["set"], r["kind"]) != (file.stem, kind)] + [result]
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                arguments.out.write_text(table(results, command), encoding="utf-8")
    print(table(results, command))


if __name__ == "__main__":
    main()
