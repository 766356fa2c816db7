"""What ``dmz probe`` found, as tables for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group

from dmzcli.commands.console import table

if TYPE_CHECKING:
    from dmzcli.analysis.paper import PaperScore
    from dmzcli.analysis.probes.protocol import Score
    from dmzcli.analysis.retrieval import Retrieval


def score_tables(scores: list[Score], sizes: dict[str, int]) -> list[Group]:
    """One table per target."""
    shown = []
    where = f"fitted on {sizes['train']:,}, chosen on {sizes['valid']:,}, tested on {sizes['test']:,} images"
    some_labels = any(score.budget < 1 for score in scores)
    for name in dict.fromkeys(score.target for score in scores):
        of_target = [score for score in scores if score.target == name]
        rows = [_row(score, of_target[0].representation, some_labels) for score in of_target]
        shown.append(table(f"probes of {name}, {where}", rows))
    return shown


def _row(score: Score, first: str, some_labels: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"head": score.head, "representation": score.representation}
    row["features"] = score.features
    if some_labels:
        row["labels"] = f"{100 * score.budget:g}%"
    row[f"test {score.measure}"] = f"{score.test:.4f}"
    row["95% interval"] = f"{score.low:.4f} to {score.high:.4f}"
    difference = score.minus_first
    row[f"minus {first}"] = "" if difference is None else "{:+.4f} ({:+.4f} to {:+.4f})".format(*difference)
    if score.measure == "AUROC":
        row["average precision"] = f"{score.details['mean_average_precision']:.4f}"
    row[f"valid {score.measure}"] = f"{score.valid:.4f}"
    row["chosen"] = ", ".join(f"{key} {value:g}" for key, value in score.settings.items())
    row["converged"] = "yes" if score.converged else "no"
    return row


def retrieval_table(found: Retrieval) -> Group:
    """One row."""
    row: dict[str, Any] = {
        "protocol": found.protocol,
        f"mAP@{found.depth}": f"{found.mean_average_precision:.4f}",
        "95% interval": f"{found.low:.4f} to {found.high:.4f}",
    }
    row |= {f"precision@{k}": f"{value:.4f}" for k, value in found.precision.items()}
    row["by chance"] = f"{found.chance:.4f}"
    return table(f"Hamming retrieval, {found.queries:,} queries, {found.database:,} rows answer", [row])


def disentanglement_table(measures: list[dict[str, Any]]) -> Group:
    """One row per representation."""
    rows = []
    for one in measures:
        row = {"representation": one["representation"]}
        row |= {
            name: f"{one['dci'][name]:.4f}" for name in ("disentanglement", "completeness", "informativeness")
        }
        if "tad" in one:
            row |= {"TAD": f"{one['tad']['total']:.4f}", "captured": str(len(one["tad"]["captured"]))}
        rows.append(row)
    return table("disentanglement: DCI by L1 logistic weights, and TAD", rows)


def paper_table(scores: list[PaperScore]) -> Group:
    """One row per target."""
    rows = [
        {
            "target": score.target,
            "measure": score.measure,
            "mean of five folds": f"{score.mean:.4f}",
            "spread": f"{score.spread:.4f}",
        }
        for score in scores
    ]
    return table(
        "the paper's protocol: all splits pooled, noisy soft codes; to compare, not to believe", rows
    )
