"""What is edited, into what, and the card that says how it went."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.analysis.flips import Probes, Rule, find_target, fit_probes
from dmzcli.analysis.lookup import query_of_picture
from dmzcli.analysis.probes.table import check_dataset
from dmzcli.analysis.probes.targets import Target, chosen_targets
from dmzcli.codes.find import find_prior, load_prior
from dmzcli.codes.table import BitTable
from dmzcli.data import SPLITS, Dataset
from dmzcli.data.dataset import spread
from dmzcli.errors import UserError
from dmzcli.evaluation.card import versions
from dmzcli.evaluation.edits import Edits, Judge, flip_facts, judged, other_classes, sheet_of
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.system.files import write_json
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.png import write_png
from priors import Prior

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Subjects:
    """The images that are edited, and the target of each.

    Attributes:
        images: uint8 (N, H, W, C).
        names: What they are called, (N,).
        columns: Targets, columns of the probes, int64 (N,).
        split: Their split; empty for pictures of one's own.
    """

    images: Array
    names: tuple[str, ...]
    columns: Array
    split: str = ""


def known_targets(table: BitTable) -> tuple[list[Target], list[Probes]]:
    """The classes and attributes of a table, with their probes.

    Raises:
        UserError: It has none, or a split is empty or of a single class.
    """
    rows = {split: table.rows(split) for split in SPLITS}
    targets = chosen_targets(table, rows)
    return targets, [fit_probes(table.bits, target, rows) for target in targets]


def brake_of(run: Run, kind: str, dim: int) -> Prior:
    """The prior that brakes.

    Raises:
        UserError: The run has none of this kind, or it is of p(bits | something).
    """
    prior = load_prior(find_prior(run, kind), run, dim)
    if prior.given_dim:
        raise UserError(
            f"the prior '{kind}' of {run.path} is given something, and brakes nothing by itself",
            f"fit one that is not: dmz fit-prior --run {run.path} --kind {prior.kind}",
        )
    return prior


def subjects_of_split(
    dataset: Dataset,
    table: BitTable,
    split: str,
    count: int,
    target: Target,
    column: int | None,
    sign: int,
    seed: int,
) -> Subjects:
    """Images of a split that lack what is raised, or have what is lowered, evenly spread.

    Arguments:
        dataset: The images of the table.
        table: The bit table.
        split: Their split.
        count: Images at most.
        target: Holds the values of the table's rows.
        column: What is raised or lowered; ``None`` raises a class at random, another than each image's own.
        sign: 1 raises, −1 lowers.
        seed: Seed of the random classes.

    Raises:
        UserError: The dataset is another one, or no image is left.
    """
    check_dataset(table, dataset)
    rows = table.rows(split)
    if column is not None:
        rows = rows[target.values[rows, column] == (sign < 0)]
    if not len(rows):
        what = "with" if sign < 0 else "without"
        of = "" if column is None else f" {what} '{target.names[column]}'"
        raise UserError(f"the split '{split}' of {dataset.name} has no image{of}", "choose another --split")
    rows = spread(rows, count)
    if column is None:
        columns = other_classes(target.values[rows].argmax(1), len(target.names), seed)
    else:
        columns = np.full(len(rows), column)
    index = table.index[rows]
    return Subjects(dataset.images[index], tuple(f"{i:06d}" for i in index), columns, split)


def subjects_of_pictures(paths: Sequence[Path], model: Autoencoder, fit: str, column: int) -> Subjects:
    """Picture files, fitted to the model's images.

    Raises:
        UserError: One is no picture, or of another size that ``fit`` does not change.
    """
    queries = [query_of_picture(path, model, fit) for path in paths]
    images = np.stack([query.image for query in queries if query.image is not None])
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):  # of several folders
        names = [f"{i}-{name}" for i, name in enumerate(names)]
    return Subjects(images, tuple(names), np.full(len(paths), column))


def write_edits(
    run: Run,
    table: BitTable,
    subjects: Subjects,
    edits: Edits,
    probes: Probes,
    rule: Rule,
    locks: Sequence[str],
    recipe: Recipe,
    judge: Judge | None,
    seed: int,
    asked: str,
    out: Path | None = None,
) -> dict[str, Any]:
    """Writes the edited images, a grid and a card into a folder, and gives the card.

    Arguments:
        run: Whose model decodes.
        table: The bit table of the probes.
        subjects: What was edited.
        edits: Into what.
        probes: The probes of the targets.
        rule, locks: How far it went, and what it kept.
        recipe: The recipe that inverts and decodes.
        judge: The independent classifier; without one the card says no more than what was flipped.
        seed: Seed of random targets and flips.
        asked: The edit in a word, for the folder's name.
        out: The folder; by default in the run's ``edits/``.
    """
    targets = [probes.names[k] for k in edits.columns]
    facts: dict[str, Any] = {
        "format": "dmz-edits",
        "version": 1,
        "run": str(run.path),
        "weights": run.weights_hash,
        "dataset": table.dataset,
        "split": subjects.split or None,
        "asked": asked,
        "target_kind": probes.kind,
        "probe": {
            "head": "logistic, each against all others",
            "C": probes.inverse_strength,
            "valid_auroc": probes.auroc,
        },
        "threshold": rule.threshold,
        "most": rule.most,
        "lock": list(locks),
        "prior": None if rule.prior is None else {"kind": rule.prior.kind, "sha256": rule.prior.sha256},
        "brake": rule.brake,
        "sampling": recipe.facts(),
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps([facts, subjects.names, targets], sort_keys=True).encode()).hexdigest()[
        :6
    ]
    safe = "".join(letter if letter.isalnum() else "-" for letter in asked)
    folder = out or run.path / "edits" / f"{safe}-{key}"
    facts |= flip_facts(edits, rule)
    facts["classifier"] = None if judge is None else judge.facts()
    if judge is not None:
        facts["judged"] = judged(edits, judge, rule)
    facts["edits"] = [
        {"image": name, "target": target, "flipped": np.flatnonzero(before != after).tolist()}
        for name, target, before, after in zip(
            subjects.names, targets, edits.bits, edits.edited_bits, strict=True
        )
    ]
    card, grid = folder / "card.json", folder / "grid.png"
    facts |= {"folder": str(folder), "card": str(card), "grid": str(grid), "versions": versions()}
    facts["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    titles = [
        f"{name}, {'+' if rule.sign > 0 else '-'}{target}: {count} flips"
        for name, target, count in zip(subjects.names, targets, edits.flips, strict=True)
    ]
    with hold(card, patience=WHILE):
        for name, image in zip(subjects.names, edits.edited, strict=True):
            write_png(folder / "images" / f"{name}.png", image)
        write_png(grid, sheet_of(edits, titles))
        write_json(card, facts)
    return facts


def shown(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A card as rows for a person: the edit beside the control."""

    def text(entry: dict[str, Any]) -> str:
        if entry["interval_95"] is None:
            return f"{entry['value']:.3g}"
        return "{:.3g} ({:.3g} … {:.3g})".format(entry["value"], *entry["interval_95"])

    if "judged" not in facts:
        return [{"": "flips", "edit": text(facts["flips"])}]
    names = {
        "target_rose": "target moved as asked, share of images",
        "target_change": "change of the target's probability",
        "others": "mean |change| of the others",
        "past_half": "past 0.5, share of images",
        "pixels": "RMS distance to the original",
    }
    rows = [{"": "flips", "edit": text(facts["flips"]), "as many at random": text(facts["flips"])}]
    rows += [
        {
            "": title,
            "edit": text(facts["judged"]["edited"][name]),
            "as many at random": text(facts["judged"]["random"][name]),
        }
        for name, title in names.items()
    ]
    return rows


def target_named(
    name: str, targets: Sequence[Target], probes: Sequence[Probes]
) -> tuple[Target, Probes, int]:
    """The target of a name, its probes and its column; see :func:`~dmzcli.analysis.flips.find_target`."""
    t, column = find_target(name, targets)
    return targets[t], probes[t], column
