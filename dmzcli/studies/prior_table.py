"""The table of a prior comparison, and its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmzcli.studies.code_images import MARGIN, Judged
from dmzcli.system.files import atomic, write_json, write_markdown

PAPERS = "uniform"
"""The prior of the paper: fair coins, Bernoulli(½)."""


@dataclass(frozen=True)
class Row:
    """One prior's numbers.

    Attributes:
        kind: The prior's kind.
        exact: Whether its likelihood is exact; else the bits are an upper bound.
        memorises: Whether its samples are near copies of training codes.
        bits_per_code, bits_per_bit: Mean −log₂ p of held-out codes.
        gain: Bits per code below those of independent bits.
        two_sample: Accuracy of telling its samples from held-out codes; 0.5 is ideal.
        two_sample_error: Standard error of that under equality.
        duplicates: Share of samples that are training codes.
        nearest: Mean Hamming distance of samples to their nearest training code.
        parameters: Fitted numbers.
        fit_seconds: Wall time of the fit, its choices included.
        samples_per_second: Drawing and nothing else.
        judged: The images decoded from its samples; ``None`` without images.
    """

    kind: str
    exact: bool
    memorises: bool
    bits_per_code: float
    bits_per_bit: float
    gain: float
    two_sample: float
    two_sample_error: float
    duplicates: float
    nearest: float
    parameters: int
    fit_seconds: float
    samples_per_second: float
    judged: Judged | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        own = {name: value for name, value in vars(self).items() if name != "judged"}
        return own | ({} if self.judged is None else self.judged.facts())


@dataclass(frozen=True)
class Comparison:
    """All rows, and what they were measured on.

    Attributes:
        rows: One per kind, best likelihood first.
        dim: D.
        split: Split of the held-out codes.
        held_out: Number of held-out codes.
        samples: Drawn from each prior.
        reference_nearest: Mean distance of the held-out codes themselves to their nearest training code.
        reference_duplicates: Share of them that are training codes.
        reference_two_sample: Accuracy of telling training codes from held-out ones: what a perfect prior scores.
        reference_two_sample_error: Standard error of that under equality.
        seed: Seed of everything random.
        settings: Options away from their defaults, of all kinds that have them.
        image_facts: What the images' scores depend on, their metric's name among it; ``None`` without images.
        real: Images of held-out codes, by the share of their bits that is flipped first; empty without images.
        margin: A prior is enough if its images are worse than those of held-out codes by less than this share of
            their score.
    """

    rows: list[Row]
    dim: int
    split: str
    held_out: int
    samples: int
    reference_nearest: float
    reference_duplicates: float
    reference_two_sample: float
    reference_two_sample_error: float
    seed: int
    settings: tuple[str, ...] = ()
    image_facts: dict[str, Any] | None = None
    real: dict[float, Judged] = field(default_factory=dict)
    margin: float = MARGIN

    @property
    def allowed(self) -> float:
        """The margin in the score's own unit; 0 without images."""
        return self.margin * self.real[0.0].score.value if self.real else 0.0

    @property
    def seen(self) -> float | None:
        """The least share of flipped bits whose images the score finds worse, by its 95% interval; ``None`` if none."""
        worse = {share: judged.worse for share, judged in self.real.items() if judged.worse is not None}
        return min((share for share, score in worse.items() if score.interval[0] > 0), default=None)

    def remark(self) -> str | None:
        """What has to be known of the verdicts; ``None`` where the score sees the least of the controls."""
        shares = sorted(share for share in self.real if share)
        if not shares or self.seen == shares[0]:
            return None
        unseen = max(share for share in shares if self.seen is None or share < self.seen)
        return (
            f"the score does not see {unseen:.0%} of the bits flipped: priors that are called enough may differ by as "
            "much; bits per code and the two-sample accuracy tell them apart"
        )

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        own = {name: value for name, value in vars(self).items() if name not in ("rows", "real", "settings")}
        rows = [row.facts() for row in self.rows]
        if self.real:
            for shown, row in zip(rows, self.rows, strict=True):
                shown["verdict"] = "" if row.judged is None else row.judged.verdict(self.allowed)
            own["real_codes"] = [{"flipped": share, **judged.facts()} for share, judged in self.real.items()]
            own |= {"margin_in_score": self.allowed, "flips_seen": self.seen}
        return {**own, "settings": list(self.settings), "rows": rows}

    def table(self) -> list[dict[str, Any]]:
        """As rows for a person."""
        rows = []
        for row in self.rows:
            notes = " (the paper's)" if row.kind == PAPERS else ""
            notes += ("" if row.exact else " (bound)") + (" (memorises)" if row.memorises else "")
            shown = {
                "prior": row.kind + notes,
                "bits/code": f"{row.bits_per_code:.2f}",
                "bits/bit": f"{row.bits_per_bit:.3f}",
                "gain": f"{row.gain:.2f}",
                "two-sample": f"{row.two_sample:.3f} ± {row.two_sample_error:.3f}",
                "duplicates": f"{row.duplicates:.1%}",
                "nearest": f"{row.nearest:.2f}",
                "parameters": f"{row.parameters:,}",
                "fit, s": f"{row.fit_seconds:.1f}",
                "samples/s": f"{row.samples_per_second:,.0f}",
            }
            rows.append(shown | self._cells(row.judged))
        trained = dict.fromkeys(rows[0], "")
        trained["prior"] = "(train codes)"
        trained["two-sample"] = f"{self.reference_two_sample:.3f} ± {self.reference_two_sample_error:.3f}"
        held_out = dict.fromkeys(rows[0], "")
        held_out["prior"] = f"({self.split} codes)"
        held_out["duplicates"] = f"{self.reference_duplicates:.1%}"
        held_out["nearest"] = f"{self.reference_nearest:.2f}"
        real = [held_out]
        for share, judged in self.real.items():
            if share:
                name = f"({self.split} codes, {share:.0%} of bits flipped)"
                real.append({**dict.fromkeys(rows[0], ""), "prior": name})
            real[-1] |= self._cells(judged)
        return [*rows, trained, *real]

    def _cells(self, judged: Judged | None) -> dict[str, str]:
        if judged is None or self.image_facts is None:
            return {}
        return judged.cells(self.image_facts["metric"], self.allowed)


def write(comparison: Comparison, folder: Path) -> None:
    """Writes ``comparison.json``, ``comparison.md`` and ``comparison.png``."""
    from matplotlib.figure import Figure

    write_json(folder / "comparison.json", comparison.facts())
    write_markdown(folder / "comparison.md", comparison.table())
    panels = 2 if comparison.image_facts is None else 3
    figure = Figure(figsize=(4 * panels, 0.4 * len(comparison.rows) + 1.6), dpi=110, layout="constrained")
    left, right, *third = figure.subplots(1, panels, sharey=True)
    names = [row.kind for row in comparison.rows]
    left.barh(names, [row.bits_per_code for row in comparison.rows])
    left.set(xlabel=f"{comparison.split} bits per code", title="likelihood (shorter is better)")
    right.barh(
        names,
        [row.two_sample - 0.5 for row in comparison.rows],
        left=0.5,
        xerr=comparison.rows[0].two_sample_error,
    )
    right.set(
        xlabel="two-sample accuracy", title="samples (0.5 is ideal)", xlim=(min(0.45, right.get_xlim()[0]), 1)
    )
    if comparison.image_facts is not None:
        scores = [row.judged.score for row in comparison.rows if row.judged is not None]
        third[0].barh(names, [s.value for s in scores], xerr=[1.96 * s.error for s in scores])
        for (share, judged), style in zip(comparison.real.items(), (":", "-.", "--", "-"), strict=True):
            label = f"{comparison.split} codes" + (f", {share:.0%} flipped" if share else "")
            third[0].axvline(judged.score.value, color="black", linestyle=style, label=label, linewidth=1)
        third[0].set(
            xlabel=comparison.image_facts["metric"], title="images (shorter is better)", xscale="symlog"
        )
        figure.legend(loc="outside lower right", fontsize="small", ncols=len(comparison.real))
    left.invert_yaxis()
    with atomic(folder / "comparison.png") as temporary:
        figure.savefig(temporary, format="png")
