"""Encoding: a dataset's images to their bit table, resumable after any kill.

Rows are encoded in parts of fixed length, which lie beside the table; the table itself appears only when every part is
there. Several processes take the parts in turns, and the main one makes the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dmzcli.codes.table import BitTable, is_bit_table
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_unit
from dmzcli.system import processes
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold_together
from dmzcli.system.parts import Parts
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import stream

PART = 8192
"""Most rows per part, and rows of one stream of a draw."""
SMALLEST = 256
"""Fewest rows per part; between the two there are 32 parts, so that processes find equal shares."""

Mode = Literal["mode", "sample"]


@dataclass(frozen=True)
class Encoded:
    """How encoding ended; ``reused`` where the table was there already, and nothing was encoded."""

    table: BitTable
    seconds: float
    resumed_rows: int
    reused: bool = False


def bits_of(model: Autoencoder, images: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """The most probable bits of uint8 images (N, H, W, C), uint8 (N, D)."""
    batches = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    with torch.inference_mode():
        return torch.cat([model.bits(to_unit(batch, model.device)) for batch in batches]).cpu().numpy()


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
    drawn = _uniforms(seed, start, start + len(images), model.dim) if mode == "sample" else None
    bits, probabilities = [], []
    with torch.inference_mode():
        for first in range(0, len(images), batch_size):
            rows = slice(first, first + batch_size)
            logits = model.logits(to_unit(images[rows], model.device))
            if not bool(logits.isfinite().all()):
                raise UserError(
                    f"the encoder's outputs of images {start + first} and on are not finite numbers",
                    "its weights are damaged, or training has failed: train the run anew",
                )
            probabilities.append(model.latent.probabilities(logits).half().cpu())
            codes = (
                model.latent.bits(logits)
                if drawn is None
                else model.latent.draw(logits, torch.from_numpy(drawn[rows]).to(model.device))
            )
            bits.append(codes.cpu())
    packed = np.packbits(torch.cat(bits).numpy(), axis=1, bitorder="big")
    return {"bits": torch.from_numpy(packed), "probs": torch.cat(probabilities)}


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
        model: The autoencoder, in evaluation mode, trained for images of this size.
        dataset: The images, labels, attributes and splits.
        out: The table's file; replaced when the new one is whole.
        weights_hash: SHA-256 of the model's weights.
        mode: ``mode``, the most probable bits, or ``sample``, a draw from q(z | x).
        seed: Seed of the draw.
        batch_size: Images at a time.
        talk: Receiver of messages and progress.

    Raises:
        UserError: The model has no bits, the images do not fit it, the disk is full, or another command writes the
            table.
        Interrupted: SIGINT or SIGTERM came; finished parts are kept.
    """
    talk = talk or Silence()
    _check(model, dataset)
    processes.check_same_weights(weights_hash)
    with hold_together(out):
        return _encode(model, dataset, out, weights_hash, mode, seed, batch_size, talk)


def _encode(
    model: Autoencoder,
    dataset: Dataset,
    out: Path,
    weights_hash: str,
    mode: Mode,
    seed: int,
    batch_size: int,
    talk: Talk,
) -> Encoded:
    """The same under the table's lock."""
    started = datetime.now(UTC)
    count, rows = len(dataset.images), part_rows(len(dataset.images))
    made = _made_before(out, dataset, weights_hash, mode, seed)
    if made is not None:
        talk.say(f"{out} holds these bits already, encoded at {made.created}: nothing to do")
        processes.wait()  # until all have read it
        if processes.main() and Parts(out).folder.exists():  # of an encoding killed after its table was whole
            Parts(out).remove()
        return Encoded(made, 0.0, count, reused=True)
    facts = {"dataset": dataset.identity, "model": weights_hash, "mode": mode, "seed": seed, "part": rows}
    parts, numbers = Parts(out), range((count + rows - 1) // rows)
    if processes.main():
        parts.claim(facts, talk.say)
    parts.know(facts)
    processes.wait()
    resumed = sum(number in parts for number in numbers) * rows
    if resumed:
        talk.say(f"resuming: {min(resumed, count):,} of {count:,} images are encoded already")
    processes.wait()  # until all have seen what was there before
    with collected() as signals, talk.task("encoding", count) as advance:
        for number in numbers[processes.rank() :: processes.ranks()]:
            start = number * rows
            if number not in parts:
                images = dataset.images[start : start + rows]
                columns = _part(model, images, start, mode, seed, batch_size)
                parts.write(number, {name: column.numpy() for name, column in columns.items()})
            advance(min(start + rows, count), "")
            if signals:
                break
        heard = int(processes.largest(signals[0] if signals else 0)[0])
        if heard:
            raise Interrupted(heard, "finished parts are kept; run the same command to go on")
    if not processes.main():
        processes.wait()  # until the table is there
        table = BitTable.read(out)
        return Encoded(table, (datetime.now(UTC) - started).total_seconds(), min(resumed, count))
    bits = parts.join("bits", len(numbers))
    table = BitTable(
        bits=np.unpackbits(bits, axis=1, count=model.dim, bitorder="big"),
        split=dataset.split,
        index=np.arange(count, dtype=np.int64),
        family=model.config.model.latent,
        cardinalities=model.latent.cardinalities,
        dataset=dataset.identity,
        model=weights_hash,
        created=started.isoformat(timespec="seconds"),
        probs=parts.join("probs", len(numbers)),
        labels=dataset.labels,
        label_names=dataset.label_names,
        attributes=dataset.attributes,
        attribute_names=dataset.attribute_names,
        facts={"mode": mode, "seed": seed, "lossy": dataset.lossy},
        names=dataset.names,
    )
    table.write(out)
    parts.remove()
    table = BitTable.read(out)  # as whoever comes next reads it
    processes.wait()
    return Encoded(table, (datetime.now(UTC) - started).total_seconds(), min(resumed, count))


def _made_before(out: Path, dataset: Dataset, weights_hash: str, mode: Mode, seed: int) -> BitTable | None:
    """The table in a file, if it is what encoding would write; what is damaged is encoded anew."""
    if not out.exists() or not is_bit_table(out):
        return None
    try:
        table = BitTable.read(out)
    except UserError:
        return None
    drawn = None if mode == "mode" else seed
    of = (
        table.model,
        table.dataset,
        table.facts.get("mode"),
        None if mode == "mode" else table.facts.get("seed"),
    )
    same = of == (weights_hash, dataset.identity, mode, drawn)
    whole = table.names == dataset.names and table.attribute_names == dataset.attribute_names
    return table if same and whole else None


def _check(model: Autoencoder, dataset: Dataset) -> None:
    if model.dim == 0:
        raise UserError(
            "a model with latent 'none' has no bits to encode", "train one with --latent bernoulli"
        )
    hint = (
        "encode the dataset that the run was trained on, or fit the images with --set data.size and data.fit"
    )
    model.check_images(dataset.images, hint, f"{dataset.name} has images of")
