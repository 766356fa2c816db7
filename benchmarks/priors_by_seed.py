"""Which prior is enough, over training seeds: Markdown tables from what ``dmz compare-priors --run`` has written.

One table per |z|: each seed's score above that of real codes, paired within the seed, and where there are several seeds
their mean with a 95% interval of Student's t, which is the training's own spread; a verdict by the margin that the
comparisons state.

    python benchmarks/priors_by_seed.py 64=runs/z64-s0,runs/z64-s1,runs/z64-s2 16=runs/z16-s0
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Facts = dict[str, Any]


def comparison(run: str) -> Facts:
    """What one run's comparison says."""
    path = Path(run)
    file = path if path.suffix == ".json" else path / "priors" / "comparison.json"
    facts: Facts = json.loads(file.read_text(encoding="utf-8"))
    return facts


def rows_of(facts: Facts) -> dict[str, Facts]:
    """The priors' rows by kind, and those of real codes by what is flipped."""
    rows = {row["kind"]: row for row in facts["rows"]}
    for row in facts["real_codes"]:
        rows[f"real, {row['flipped']:.0%} flipped" if row["flipped"] else "real"] = row
    return rows


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of the difference from real codes says of a margin."""
    return "enough" if high < margin else "worse" if low > margin else "undecided"


def over_seeds(values: list[float]) -> tuple[float, float]:
    """Mean, and half of the 95% interval of the mean over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def table(size: str, runs: list[Facts]) -> list[str]:
    """The table of one |z|."""
    found = [rows_of(facts) for facts in runs]
    margin = float(np.mean([facts["margin_in_score"] for facts in runs]))
    facts = runs[0]["image_facts"]
    columns = ["bits from", "held-out bits", *(f"seed {i}" for i in range(len(runs)))]
    columns += [
        *(f"above real {i}" for i in range(len(runs))),
        "mean above real",
        "verdict",
        "commonest class",
    ]
    lines = [
        f"**|z| = {size}**: {facts['metric']} of {facts['count']:,} images, {facts['sampler']}, "
        f"{facts['steps']} steps; margin {margin:.3g}",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
    ]
    for name in found[0]:
        rows = [each[name] for each in found if name in each]
        missing = [""] * (len(found) - len(rows))
        bits = np.mean([row["bits_per_code"] for row in rows]) if "bits_per_code" in rows[0] else None
        cells = [name, "" if bits is None else f"{bits:.2f}"]
        cells += [f"{row['images']:.2f} ± {1.96 * row['images_error']:.2f}" for row in rows] + missing
        if name == "real":
            cells += [""] * (len(found) + 2)
        else:
            above = [row["images_worse"] for row in rows]
            half = [1.96 * row["images_worse_error"] for row in rows]
            pairs = zip(above, half, strict=True)
            cells += [f"{value:+.2f} ± {error:.2f}" for value, error in pairs] + missing
            mean, error = over_seeds(above) if len(above) > 1 else (above[0], half[0])
            cells += [f"{mean:+.2f} ± {error:.2f}", verdict(mean - error, mean + error, margin)]
        shares = [row["commonest_class"] for row in rows if row["commonest_class"] is not None]
        cells.append("/".join(f"{share:.0%}" for share in shares))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def main() -> None:
    for argument in sys.argv[1:]:
        size, _, runs = argument.partition("=")
        print("\n".join(table(size, [comparison(run) for run in runs.split(",")])))


if __name__ == "__main__":
    main()
