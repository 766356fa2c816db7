"""Images per second of the data paths with the model left out, beside torchvision's ``ImageFolder``.

All give the same batches: decoded, half of the images mirrored, float32 in [-1, 1] on the device. ``ImageFolder`` reads
the pictures through a ``DataLoader`` with 2 workers; the others read the image pack that is prepared from the same
pictures: resident on the device, and streamed from the pack's file. The paths take turns, so that whatever else the
machine does meets all of them; the table shows the median of the rounds, and the median of the rounds' ratios. Where
the machine is shared, images per second of one core's time are the steadier number: work in three processes gets a
larger share of a busy machine than work in one.

    python benchmarks/data.py cifar10-jpeg.tar.xz --rounds 7
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL
import psutil
import torch
import torchvision
from machine import words
from torch import Tensor
from torchvision import transforms
from torchvision.datasets import ImageFolder

from dmzcli import data
from dmzcli.data.formats.archives import opened
from dmzcli.data.formats.picture import SUFFIXES
from dmzcli.system.devices import pick
from dmzcli.training.feed import Feed

WORKERS = 2


def unpack(pictures: Path, folder: Path) -> Path:
    """Writes the training pictures of a folder or archive into class folders below ``folder``."""
    with opened(pictures) as entries:
        for entry in entries:
            parts = Path(entry.name).parts
            if not entry.folder and Path(entry.name).suffix.lower() in SUFFIXES and "train" in parts[:-2]:
                file = folder / parts[-2] / parts[-1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(entry.read())
    return folder


def image_folder(folder: Path, batch: int, device: torch.device, seed: int) -> Iterator[Tensor]:
    """Batches of torchvision's, without end."""
    steps = [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
    loader = torch.utils.data.DataLoader(
        ImageFolder(str(folder), transforms.Compose(steps)),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
        generator=torch.Generator().manual_seed(seed),
    )
    while True:
        for images, _ in loader:
            yield images.to(device, non_blocking=True)


def feed(pack: data.Dataset, batch: int, device: torch.device, seed: int, mode: str) -> Iterator[Tensor]:
    """Batches of ours, without end."""
    source = Feed(pack.images, pack.rows("train"), device, seed, batch, mode=mode)  # type: ignore[arg-type]
    generator, step = torch.Generator(device).manual_seed(seed), 0
    while True:
        yield source(step, torch.rand(batch, generator=generator, device=device) < 0.5)
        step += 1


def processor_seconds() -> float:
    """What this process and its workers have computed so far."""
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))


def rate(batches: Iterator[Tensor], seconds: float, device: torch.device) -> tuple[float, float]:
    """Images a second, and images a second of one core's time, over at least ``seconds``."""
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(8):  # what was read ahead while others had their turn is not counted
        next(batches)
    wait()
    images, start, computed = 0, time.perf_counter(), processor_seconds()
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            images += len(next(batches))
    wait()
    return images / (time.perf_counter() - start), images / (processor_seconds() - computed)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path, help="a folder or archive with train/<class>/<picture>")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each path in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    arguments = parser.parse_args()
    device, batch, seed = pick(arguments.device), arguments.batch_size, arguments.seed
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpack(arguments.pictures, Path(scratch) / "pictures")
        start = time.perf_counter()
        pack = data.prepare(str(arguments.pictures), Path(scratch) / "pack.h5").dataset
        prepared = len(pack) / (time.perf_counter() - start)
        paths = {
            f"ImageFolder, {WORKERS} workers": image_folder(folder, batch, device, seed),
            "resident": feed(pack, batch, device, seed, "resident"),
            "streamed from the pack": feed(pack, batch, device, seed, "stream"),
        }
        first = {name: next(batches) for name, batches in paths.items()}
        low, high = (
            np.float64(x) for x in (min(map(torch.min, first.values())), max(map(torch.max, first.values())))
        )
        assert (low, high) == (-1, 1) and len({tuple(x.shape) for x in first.values()}) == 1
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
        for _ in range(arguments.rounds):
            for name, batches in paths.items():
                rates[name].append(rate(batches, arguments.seconds, device))
    peer, *ours = rates
    print(
        f"{words(device)}, torchvision {torchvision.__version__}, "
        f"Pillow {PIL.__version__}; {pack.identity}, batch {batch}, {arguments.rounds} alternating rounds of "
        f"{arguments.seconds:g} s, seed {seed}\n"
    )
    print(
        "| path | images/s, median | slowest - fastest | times ImageFolder | images per core second | times |"
    )
    print("|---|---|---|---|---|---|")
    for name, found in rates.items():
        cells = []
        for kind, values in enumerate(zip(*found, strict=True)):
            ratio = statistics.median(a / b[kind] for a, b in zip(values, rates[peer], strict=True))
            cells.append(f"{statistics.median(values):,.0f}")
            cells += [f"{min(values):,.0f} - {max(values):,.0f}"] if kind == 0 else []
            cells.append(f"{ratio:.1f}" if name in ours else "")
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nPreparing the pack, once: {prepared:,.0f} images/s.")


if __name__ == "__main__":
    main()
