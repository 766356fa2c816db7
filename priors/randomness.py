"""Randomness that belongs to the row.

Row i of a sample is a deterministic map of its own uniform numbers u_i ∈ [0, 1)^W, and u_i depends on
(seed, i) alone: rows are drawn in blocks of a fixed size, block j from a Philox counter generator that is
seeded by (seed, j). Hence the first m rows of n are the same for every n ≥ m, and memory is bounded by a
block. No global generator is read or changed.
"""

from __future__ import annotations

import numpy as np

from priors.arrays import Float32


def generator(*key: int) -> np.random.Generator:
    """A Philox generator that depends on the integers of ``key`` alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([k % 2**64 for k in key])))


def block_uniforms(seed: int, block: int, rows: int, width: int) -> Float32:
    """The uniform numbers of one block, row after row.

    Arguments:
        seed: An integer, modulo 2⁶⁴.
        block: Number of the block, from 0.
        rows: Rows in a block.
        width: Numbers per row.

    Returns:
        float32 (rows, width), multiples of 2⁻²⁴ in [0, 1).
    """
    return generator(seed, block).random((rows, width), dtype=np.float32)
