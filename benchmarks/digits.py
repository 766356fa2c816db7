"""Codes of 9 bits from scikit-learn's digits, as a data set for ``debd.py``: small, and soon learnt.

A code is six of the rows and six of the columns of a picture, in 3×3 cells, each above its median or not; the upper
and the lower six rows of 1,797 pictures make 3,594 codes. Pictures, and not codes, are split: 3,000 codes for fitting
and choosing, 594 for test.

    python benchmarks/digits.py FOLDER/digits9.npz
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_digits

TRAIN, VALID = 1350, 1500  # pictures before these


def main(path: str) -> None:
    pictures = load_digits().images
    pictures = pictures[np.random.default_rng(0).permutation(len(pictures))]
    crops = np.stack([pictures[:, :6, 1:7], pictures[:, 2:, 1:7]], axis=1)
    cells = crops.reshape(-1, 2, 3, 2, 3, 2).mean((3, 5)).reshape(-1, 2, 9)
    bits = (cells > np.median(cells[:TRAIN], axis=0)).astype(np.uint8)
    parts = {"train": bits[:TRAIN], "valid": bits[TRAIN:VALID], "test": bits[VALID:]}
    packed = {name: np.packbits(part.reshape(-1, 9), axis=1) for name, part in parts.items()}
    np.savez(path, dim=9, **packed)


if __name__ == "__main__":
    main(sys.argv[1])
