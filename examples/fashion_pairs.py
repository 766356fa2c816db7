"""Pairs to translate, from data that is at hand: edges and photos of Fashion-MNIST, or gray and color of CIFAR-10.

Writes folders of pictures side by side, A left and B right, as pix2pix has them: ``train/``, ``val/`` and ``test/``, in
class folders. The edges are Canny's, by scikit-image. Footwear, bags and all the rest are sets of their own, so that a
map of shoes can be tried on bags:

    python examples/fashion_pairs.py pairs                      # pairs/shoes, pairs/bags, pairs/clothes
    python examples/fashion_pairs.py pairs --dataset cifar10    # pairs/cifar10-colors
    dmz train pairs/shoes --pair
    dmz encode --pair shoes
    dmz fit-prior --pair shoes --kind mixture
    dmz translate --pair shoes -n 4 --steps 10
    dmz translate pairs/bags --pair shoes -n 4 --steps 10       # another set's edges
    dmz evaluate --pair shoes --count 1000 --draws 4 --steps 10
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.feature import canny

from dmzcli import data
from dmzcli.data.crops import with_channels

SideA = Callable[[np.ndarray], np.ndarray]
SETS = {
    "shoes": ("Sandal", "Sneaker", "Ankle boot"),
    "bags": ("Bag",),
    "clothes": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Shirt"),
}
FOLDERS = {"train": "train", "valid": "val", "test": "test"}


def edges(image: np.ndarray, sigma: float) -> np.ndarray:
    """Black lines on white, uint8 (H, W, 1), where the brightness of a gray image (H, W, 1) changes most."""
    lines = canny(image[..., 0].astype(float) / 255, sigma=sigma)
    return np.where(lines, 0, 255).astype(np.uint8)[..., None]


def write(
    folder: Path, dataset: data.Dataset, classes: tuple[str, ...], most: int | None, side_a: object
) -> int:
    """Writes the pairs of some classes; gives how many there are."""
    assert dataset.labels is not None and callable(side_a)
    count, wanted = 0, [dataset.label_names.index(name) for name in classes]
    for split, name in FOLDERS.items():
        rows = dataset.rows(split)
        rows = rows[np.isin(dataset.labels[rows], wanted)][:most]
        for row in rows:
            image = dataset.images[row]
            left = with_channels(side_a(image), image.shape[-1])
            both = np.concatenate([left, image], axis=1)
            label = dataset.label_names[dataset.labels[row]].replace("/", "-")
            file = folder / name / label / f"{row:06d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(both[..., 0] if both.shape[-1] == 1 else both).save(file)
            count += 1
    return count


def main() -> None:
    """Writes the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", choices=["fashion-mnist", "cifar10"], default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--size", type=int, default=28, help="of Fashion-MNIST's images, by resampling")
    parser.add_argument("--sigma", type=float, default=1.0, help="of the blur before edges are looked for")
    parser.add_argument("--most", type=int, default=None, help="pairs of a split, for a trial")
    options = parser.parse_args()

    sets: dict[str, Sequence[str]] = dict(SETS)
    side_a: SideA = partial(edges, sigma=options.sigma)
    if options.dataset == "cifar10":
        dataset = data.load("cifar10", data_dir=options.data_dir)
        sets, side_a = {"cifar10-colors": dataset.label_names}, partial(with_channels, channels=1)
    elif options.size == 28:
        dataset = data.load("fashion-mnist", data_dir=options.data_dir)
    else:
        dataset = data.load("fashion-mnist", data_dir=options.data_dir, size=options.size, fit="resize")
    for name, classes in sets.items():
        count = write(options.folder / name, dataset, classes, options.most, side_a)
        print(f"{options.folder / name}: {count:,} pairs")


if __name__ == "__main__":
    main()
