"""Encoding: a dataset's images to their bit table, resumable after any kill.

Rows are encoded in parts of fixed length. A finished part is a small file beside the table, written whole;
the table itself appears only when every part is there. Several processes take the parts in turns, and the main one
makes the table.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dmzcli.codes import table as bit_tables
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder, pick_bits
from dmzcli.model.pixels import to_unit
from dmzcli.system import processes
from dmzcli.system.files import load_tensors, read_json, save_tensors, sweep, user_errors, write_json
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import stream

PART = 8192
"""Most rows per part, and rows of one stream of a draw."""
SMALLEST = 256
"""Fewest rows per part; between the two there are 32 parts, so that processes find equal shares."""

Mode = Literal["mode", "sample"]


@dataclass(frozen=True)
class Encoded:
    """How encoding ended."""

    table: bit_tables.BitTable
    seconds: float
    resumed_rows: int


def probabilities_of(model: Autoencoder, images: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """q(z_i = 1 | x), float32 (N, D), of uint8 images (N, H, W, C)."""
    device = model.device
    batches = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    with torch.inference_mode():
        return torch.cat([model.probabilities(to_unit(batch, device)) for batch in batches]).cpu().numpy()


def bits_of(model: Autoencoder, images: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """The most probable bits of uint8 images (N, H, W, C), uint8 (N, D)."""
    return pick_bits(torch.from_numpy(probabilities_of(model, images, batch_size))).numpy()


def part_rows(count: int) -> int:
    """Rows per part of a dataset of ``count``: of the count alone, so that any number of processes can go on."""
    return min(PART, max(SMALLEST, -(-count // 32)))


def _uniforms(seed: int, start: int, stop: int, dim: int) -> np.ndarray:
    """Numbers in [0, 1) of the rows from ``start`` to ``stop``, float32; row i's depend on (seed, i) alone."""
    drawn = []
    while start < stop:
        block, first = divmod(start, PART)
        last = min(stop - block * PART, PART)
        drawn.append(stream("encode", seed, block).random((last, dim), np.float32)[first:])
        start += last - first
    return np.concatenate(drawn)


def _part(
    model: Autoencoder, images: np.ndarray, start: int, mode: Mode, seed: int, batch_size: int
) -> dict[str, torch.Tensor]:
    """Bits and probabilities of images that begin at row ``start``."""
    probabilities = probabilities_of(model, images, batch_size)
    if mode == "mode":
        bits = pick_bits(torch.from_numpy(probabilities)).numpy()
    else:
        uniforms = _uniforms(seed, start, start + len(images), probabilities.shape[1])
        bits = (uniforms < probabilities).astype(np.uint8)
    return {
        "bits": torch.from_numpy(np.packbits(bits, axis=1, bitorder="big")),
        "probs": torch.from_numpy(probabilities.astype(np.float16)),
    }


def encode(
    model: Autoencoder,
    dataset: Dataset,
    out: Path,
    weights_hash: str,
    mode: Mode = "mode",
    seed: int = 0,
    batch_size: int = 512,
    talk: Talk | None = None,
) -> Encoded:
    """Encodes every image of a dataset and writes the table.

    Arguments:
        model: In evaluation mode, trained for images of this size.
        dataset: Its images, labels, attributes and splits.
        out: The table's file; replaced when the new one is whole.
        weights_hash: SHA-256 of the model's weights.
        mode: ``mode``, the most probable bits, or ``sample``, a draw from q(z | x).
        seed: Of the draw.
        batch_size: Images at a time.
        talk: Who listens.

    Raises:
        UserError: The model has no bits, the images do not fit it, or the disk is full.
        Interrupted: SIGINT or SIGTERM came; finished parts are kept.
    """
    talk = talk or Silence()
    _check(model, dataset)
    started = datetime.now(UTC)
    count, rows = len(dataset.images), part_rows(len(dataset.images))
    facts = {"dataset": dataset.identity, "model": weights_hash, "mode": mode, "seed": seed, "part": rows}
    parts = out.parent / f".{out.name}.parts"
    if processes.main():
        _claim(parts, facts)
        sweep(out)
    processes.wait()
    files = [parts / f"{number:06d}.safetensors" for number in range((count + rows - 1) // rows)]
    resumed = sum(file.exists() for file in files) * rows
    if resumed:
        talk.say(f"resuming: {min(resumed, count):,} of {count:,} images are encoded already")
    processes.wait()  # until all have seen what was there before
    with collected() as signals, talk.task("encoding", count) as advance:
        for number in range(processes.rank(), len(files), processes.ranks()):
            start = number * rows
            if not files[number].exists():
                images = dataset.images[start : start + rows]
                save_tensors(files[number], _part(model, images, start, mode, seed, batch_size))
            advance(min(start + rows, count), "")
            if signals:
                break
        heard = int(processes.largest(signals[0] if signals else 0)[0])
        if heard:
            raise Interrupted(heard, "finished parts are kept; run the same command to go on")
    if not processes.main():
        processes.wait()  # until the table is there
        table = bit_tables.read(out)
        return Encoded(table, (datetime.now(UTC) - started).total_seconds(), min(resumed, count))
    bits, probs = _joined(files, count, model.dim)
    table = bit_tables.BitTable(
        bits=bits,
        split=dataset.split,
        index=np.arange(count, dtype=np.int64),
        family=model.config.model.latent,
        cardinalities=np.full(model.dim, 2, np.int64),
        dataset=dataset.identity,
        model=weights_hash,
        created=started.isoformat(timespec="seconds"),
        probs=probs,
        labels=dataset.labels,
        label_names=dataset.label_names,
        attributes=dataset.attributes,
        attribute_names=dataset.attribute_names,
        facts={"mode": mode, "seed": seed, "lossy": dataset.lossy},
    )
    bit_tables.write(out, table)
    shutil.rmtree(parts)
    processes.wait()
    return Encoded(table, (datetime.now(UTC) - started).total_seconds(), min(resumed, count))


def _joined(files: list[Path], count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The bits and the probabilities of all parts; one part is in memory beside them."""
    bits, probs = np.empty((count, dim), np.uint8), np.empty((count, dim), np.float16)
    start = 0
    for file in files:
        part = load_tensors(file)[0]
        stop = start + len(part["bits"])
        bits[start:stop] = np.unpackbits(part["bits"].numpy(), axis=1, count=dim, bitorder="big")
        probs[start:stop] = part["probs"].numpy()
        start = stop
    return bits, probs


def _check(model: Autoencoder, dataset: Dataset) -> None:
    if model.dim == 0:
        raise UserError(
            "a model with latent 'none' has no bits to encode", "train one with --latent bernoulli"
        )
    size, channels = model.config.data.size, model.config.data.channels
    if dataset.images.shape[1:] != (size, size, channels):
        found = "x".join(map(str, dataset.images.shape[1:]))
        raise UserError(
            f"{dataset.name} has images of {found}, the model takes {size}x{size}x{channels}",
            "encode the dataset that the run was trained on, or fit the images with --set data.size and data.fit",
        )


def _claim(parts: Path, facts: dict[str, object]) -> None:
    """Takes the folder of parts for this very encoding; parts of another one are dropped."""
    header = parts / "encoding.json"
    if header.exists() and json.dumps(read_json(header), sort_keys=True) == json.dumps(facts, sort_keys=True):
        return
    with user_errors(parts):
        if parts.exists():
            shutil.rmtree(parts)
        parts.mkdir(parents=True)
    write_json(header, facts)
