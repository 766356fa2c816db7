"""Probes of a bit table, beside the baselines of raw pixels and of an untrained encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.analysis.probes.linear import Probe, probe
from dmzcli.codes.encode import bits_of
from dmzcli.codes.table import BitTable
from dmzcli.config import Config
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import build
from dmzcli.system.files import read_json, write_json
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
FORMAT = "dmz-probes"


def untrained_bits(config: Config, dataset: Dataset, device: torch.device, batch_size: int = 512) -> Array:
    """Bits of the same encoder as it is initialized, uint8 (N, D).

    Its batch-norm statistics are measured on the training images, as training would: without that, an untrained
    encoder's bits are nearly constant and the baseline is a straw man.
    """
    model = build(config).to(device).eval()
    model.remeasure(dataset.images, dataset.rows("train"), batch_size)
    return bits_of(model, dataset.images, batch_size)


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
    if dataset is not None and dataset.identity != table.dataset:
        raise UserError(
            f"the dataset is {dataset.identity}, but the table was made from {table.dataset}",
            "name the same dataset with --data-dir, or encode anew",
        )
    rows = {split: table.rows(split) for split in ("train", "valid", "test")}
    inputs = [("bits", table.bits)]
    if dataset is not None and config is not None:
        inputs.append(("untrained bits", untrained_bits(config, dataset, device)[table.index]))
        inputs.append(("pixels", dataset.images.reshape(len(dataset.images), -1)[table.index]))
    results = []
    with talk.task("probing", len(inputs)) as advance:
        for done, (name, features) in enumerate(inputs):
            advance(done, name)
            scaled = features.astype(np.float32) / max(int(features.max()), 1)
            results.append(probe(name, scaled, table.labels, rows, len(table.label_names)))
        advance(len(inputs), "")
    return results


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
