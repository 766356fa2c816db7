"""A page on the bits of a table, and the same as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.analysis.inspector.bits import LEVEL, entropy
from dmzcli.analysis.inspector.inspect import Inspection
from dmzcli.reports import inspect_figures as figures
from dmzcli.reports.html import drawn, write_page
from dmzcli.system.files import write_json

FORMAT = "dmz-inspection"
LISTED = 60
"""Findings that the page lists; the JSON has all."""


def write_inspection(found: Inspection, about: dict[str, Any], title: str, file: Path) -> tuple[Path, Path]:
    """Writes the page and, beside it, the JSON.

    Arguments:
        found: What was found.
        about: Facts that the page and the JSON begin with.
        title: Title of the page.
        file: The page; the JSON has the same stem.

    Returns:
        The page's file and the JSON's.
    """
    write_json(file.with_suffix(".json"), {"format": FORMAT, "version": 1, **about, **found.facts()})
    return write_page(file, "inspect.html", title=title, about=about, **_sections(found)), file.with_suffix(
        ".json"
    )


def _sections(found: Inspection) -> dict[str, Any]:
    code, curves = found.code, found.curves
    significant = [finding for finding in found.findings if finding.adjusted < LEVEL]
    exhibits = sorted(found.exhibits, key=lambda exhibit: -exhibit.effect)
    most = max([float(np.abs(exhibit.difference).max()) for exhibit in exhibits], default=1.0) or 1.0
    rates, share = figures.rates_plot(found), None if curves is None else figures.share_plot(curves)
    return {
        "bits": _bits(found),
        "equal": {
            "constant": _listed(found.constant),
            "duplicates": ", ".join(f"{i} of {j}" for i, j in found.duplicates.items()) or "none",
            "negations": ", ".join(f"{i} of {j}" for i, j in found.negations.items()) or "none",
        },
        "level": LEVEL,
        "tests": len(found.findings),
        "significant": len(significant),
        "findings": [_finding(finding) for finding in significant[:LISTED]],
        "rates": None if rates is None else drawn(rates),
        "code": _code(found),
        "pairwise": drawn(figures.pairwise_plot(code)),
        "distances": drawn(figures.distances_plot(code)),
        "means": [{"class": n, "mean distance within": m} for n, m in code.means.items() if m is not None],
        "losses": None if curves is None else drawn(figures.losses_plot(curves)),
        "nats": None if curves is None else drawn(figures.nats_plot(curves)),
        "share": None if share is None else drawn(share),
        "measured": "" if curves is None else f"{len(curves.losses['true']):,} {found.split} images",
        "total": {} if curves is None else _nats(found),
        "stable": found.stability is not None,
        "exhibits": [
            (f"bit {e.bit}: {e.effect:.1f} gray levels", figures.exhibit_sheet(e, found.attention, most))
            for e in exhibits
        ],
        "attention": bool(found.attention),
        "absent": found.absent,
    }


def _listed(bits: list[int]) -> str:
    return ", ".join(map(str, bits)) or "none"


def _finding(finding: Any) -> dict[str, Any]:
    return {
        "bit": finding.bit,
        "of": finding.factor,
        "information, bits": finding.information,
        "p, corrected": f"{finding.adjusted:.1e}" if finding.adjusted > 1e-300 else "< 1e-300",
        "test": finding.test,
    }


def _bits(found: Inspection) -> list[dict[str, Any]]:
    uncertainty = entropy(found.frequency)
    best: dict[int, Any] = {}
    for finding in found.findings:  # the most information first
        if finding.adjusted < LEVEL:
            best.setdefault(finding.bit, finding)
    nats = (
        {} if found.curves is None else dict(zip(found.curves.bits, found.curves.share[:, -1], strict=True))
    )
    effects = {exhibit.bit: exhibit.effect for exhibit in found.exhibits}
    rows = []
    for bit in range(found.dim):
        told = best.get(bit)
        row: dict[str, Any] = {
            "bit": bit,
            "frequency": float(found.frequency[bit]),
            "entropy": float(uncertainty[bit]),
            "note": _note(found, bit),
        }
        if found.factors:
            row["tells most of"] = "" if told is None else f"{told.factor} ({told.information:.3f})"
        if found.stability is not None:
            row |= {name: float(share[bit]) for name, share in found.stability.changes.items()}
            row["by chance"] = float(found.stability.chance[bit])
        if found.curves is not None:
            row["nats"] = float(nats[bit]) if bit in nats else ""
        if found.exhibits:
            row["effect"] = effects.get(bit, "")
        rows.append(row)
    return rows


def _note(found: Inspection, bit: int) -> str:
    if bit in found.constant:
        return f"dead: always {int(found.frequency[bit])}"
    if bit in found.duplicates:
        return f"the same as {found.duplicates[bit]}"
    if bit in found.negations:
        return f"the negation of {found.negations[bit]}"
    return "rare" if min(found.frequency[bit], 1 - found.frequency[bit]) < 0.01 else ""


def _code(found: Inspection) -> dict[str, Any]:
    code = found.code
    facts: dict[str, Any] = {
        "rows": f"{code.rows:,}",
        "different codes": f"{code.distinct:,}",
        "rows of the most frequent code": f"{code.largest:,}",
        "probability that two rows agree": f"{code.collision:.3g}",
        "effective number of codes": "no two rows agree"
        if code.effective is None
        else f"{code.effective:,.0f}",
        "entropy of the bits, summed": f"{entropy(found.frequency).sum():.2f} bits of {found.dim}",
    }
    for kind, (mean, half) in code.total_correlation.items():
        facts[f"total correlation, at least ({kind})"] = f"{mean:.2f} ± {half:.2f} bits"
    return facts


def _nats(found: Inspection) -> dict[str, str]:
    assert found.curves is not None
    names = {
        "none": "I(x_t; z), at the least noise",
        "other": "upper bound, at the least noise",
        "prior": "over a prior's bits",
    }
    facts = {}
    for name, label in names.items():
        if name in found.curves.losses:
            mean, half = found.curves.information(name)
            facts[label] = f"{mean[-1]:.2f} ± {half[-1]:.2f} nats"
    saved = max((mean for mean, _ in found.code.total_correlation.values()), default=0.0)
    most = (entropy(found.frequency).sum() - saved) * np.log(2)
    facts["what the bits hold, at most"] = f"{most:.2f} nats, by their entropies less the total correlation"
    return facts
