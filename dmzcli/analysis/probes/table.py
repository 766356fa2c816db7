"""Probes of a bit table, beside the baselines of raw pixels and of an untrained encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.analysis.probes.linear import Probe, probe
from dmzcli.analysis.probes.protocol import Rows
from dmzcli.analysis.probes.representations import REPRESENTATIONS, Representation, Source
from dmzcli.analysis.probes.targets import SPLITS
from dmzcli.codes.table import BitTable
from dmzcli.config import Config
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.system.files import read_json, write_json
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
FORMAT = "dmz-probes"


def probe_table(
    table: BitTable,
    dataset: Dataset | None,
    config: Config | None,
    device: torch.device,
    talk: Talk | None = None,
) -> list[Probe]:
    """Probes a table's bits and, where the dataset and the configuration are at hand, two baselines.

    Arguments:
        table: With labels.
        dataset: The one that was encoded, for the pixels; ``None`` leaves the baselines out.
        config: The model's, for the untrained encoder.
        device: Device of the untrained encoder.
        talk: Receiver of messages and progress.

    Returns:
        The probes of ``bits``, ``untrained bits`` and ``pixels``, in this order.

    Raises:
        UserError: The table has no labels, or the dataset is another one.
    """
    talk = talk or Silence()
    if table.labels is None:
        raise UserError("the bit table has no labels", "probe the table of a labeled dataset")
    check_dataset(table, dataset)
    rows = {split: table.rows(split) for split in SPLITS}
    source = Source(table, dataset, config, device)
    names = ["bits", *(["untrained", "pixels"] if dataset is not None and config is not None else [])]
    results = []
    with talk.task("probing", len(names)) as advance:
        for done, name in enumerate(names):
            kind = REPRESENTATIONS.get(name)()
            advance(done, kind.title)
            results.append(
                probe(kind.title, kind.features(source), table.labels, rows, len(table.label_names))
            )
        advance(len(names), "")
    return results


def check_dataset(table: BitTable, dataset: Dataset | None) -> None:
    """Raises UserError where a table was made from another dataset."""
    if dataset is not None and dataset.identity != table.dataset:
        raise UserError(
            f"the dataset is {dataset.identity}, but the table was made from {table.dataset}",
            "name the same dataset with --data-dir, or encode anew",
        )


def represented(source: Source, names: Sequence[str], other: Source | None, talk: Talk) -> list[Rows]:
    """Representations of a table's splits.

    Arguments:
        source: The table, and what is at hand of its images and its model.
        names: Names of representations.
        other: The table whose test rows are tested on; ``None`` for the same.
        talk: Receiver of progress.

    Raises:
        UserError: A representation needs what is not at hand, or does not transfer.
    """
    made = []
    rows = {split: source.table.rows(split) for split in SPLITS}
    with talk.task("representing", len(names)) as advance:
        for done, name in enumerate(names):
            kind = REPRESENTATIONS.get(name)()
            advance(done, kind.title)
            if missing := lacking(kind, source, other):
                raise UserError(f"the representation '{name}' cannot be made: {missing}", "leave it out")
            features = source.features(kind)
            there = (
                features[rows["test"]] if other is None else other.features(kind)[other.table.rows("test")]
            )
            made.append(Rows(kind.title, features[rows["train"]], features[rows["valid"]], there))
        advance(len(names), "")
    return made


def lacking(kind: Representation, source: Source, other: Source | None = None) -> str:
    """Why a representation cannot be made; empty where it can."""
    if kind.needs_images and source.dataset is None:
        return "the images that were encoded are not at hand"
    if kind.needs_config and source.config is None:
        return "the run that made the table is not at hand"
    if kind.name == "probs" and source.table.probs is None:
        return "the table has no probabilities"
    if other is not None and not kind.transfers:
        return "it means something else in every table"
    return ""


def check_transfer(table: BitTable, other: BitTable) -> None:
    """Raises UserError unless the bits of two tables mean the same."""
    if other.model != table.model or other.dim != table.dim:
        raise UserError(
            "the two tables hold the bits of different models, which mean different things",
            "encode the other dataset with the same run: dmz encode OTHER --run RUN --out other.h5",
        )


@dataclass(frozen=True)
class SavedProbes:
    """Probes of a table, as a run keeps them.

    Attributes:
        probes: The results, that of the bits first.
        label_names: One name per class.
        model: SHA-256 of the weights that made the bits.
        facts: All that the file says.
    """

    probes: list[Probe]
    label_names: tuple[str, ...]
    model: str
    facts: dict[str, Any]


def write_probes(file: Path, table: BitTable, facts: dict[str, Any]) -> None:
    """Writes the facts of probes, with the names of the table's classes and the weights that made its bits."""
    names = list(table.label_names)
    write_json(file, {"format": FORMAT, "version": 1, **facts, "label_names": names, "model": table.model})


def read_probes(file: Path) -> SavedProbes:
    """Reads what :func:`write_probes` wrote.

    Raises:
        UserError: The file is damaged, or holds no probes.
    """
    facts = read_json(file)
    try:
        probes = [Probe(**{**row, "confusion": np.array(row["confusion"])}) for row in facts["probes"]]
        return SavedProbes(probes, tuple(facts["label_names"]), str(facts["model"]), facts)
    except (KeyError, TypeError) as error:
        raise UserError(f"{file} holds no probes: {error}", "make it anew with dmz probe") from error
