"""Search by bits: for each test image the training images whose codes differ in the fewest bits.

Reads a bit table with h5py and NumPy alone, as any program can.

    python examples/nearest_codes.py runs/demo/bits.h5 --neighbors 5
"""

from __future__ import annotations

import argparse

import h5py
import numpy as np


def main() -> None:
    """Prints how often the nearest codes belong to images of the same class."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table")
    parser.add_argument("--neighbors", type=int, default=5)
    arguments = parser.parse_args()

    with h5py.File(arguments.table) as table:
        dim = int(table.attrs["dim"])
        bits = np.unpackbits(table["bits"][:], axis=1, count=dim, bitorder="big").astype(np.float32)
        split, labels = table["split"][:], table["labels"][:]

    train, test = np.flatnonzero(split == 0), np.flatnonzero(split == 2)
    # The Hamming distance of two codes is |a| + |b| - 2 a.b: one matrix product for all pairs of a block.
    weight = bits[train].sum(1)
    agree = []
    for block in np.array_split(test, max(1, len(test) // 1000)):
        distance = weight + bits[block].sum(1, keepdims=True) - 2 * bits[block] @ bits[train].T
        nearest = np.argpartition(distance, arguments.neighbors, axis=1)[:, : arguments.neighbors]
        agree.append(labels[train[nearest]] == labels[block, None])
    share = np.concatenate(agree).mean()
    print(
        f"{share:.1%} of the {arguments.neighbors} nearest of {len(train):,} codes ({dim} bits) share the class"
    )


if __name__ == "__main__":
    main()
