"""How good samples of codes are: against held-out codes, and against the codes that were fitted.

All take uint8 arrays of 0 and 1, one code a row. Likelihood alone does not tell whether samples look right (L. Theis,
A. van den Oord, M. Bethge, "A note on the evaluation of generative models", 2016, arXiv 1511.01844); these ask the
samples themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from priors.arrays import Bits, Integers
from priors.checks import check_bits, check_seed
from priors.errors import PriorError
from priors.parts.numerics import hamming
from priors.randomness import generator

BLOCK = 2048


@dataclass(frozen=True)
class TwoSample:
    """A classifier two-sample test.

    Attributes:
        accuracy: Share of unseen codes, half samples and half held out, that the classifier tells right; 0.5 is ideal.
        error: Standard error of the accuracy under the hypothesis that both are alike, 0.5 / √n.
        n: Number of codes that the accuracy was measured on.
    """

    accuracy: float
    error: float
    n: int


def two_sample_accuracy(samples: Bits, held_out: Bits, seed: int = 0) -> TwoSample:
    """Trains a classifier to tell samples from held-out codes, and measures it on others.

    D. Lopez-Paz, M. Oquab, "Revisiting Classifier Two-Sample Tests", 2017, arXiv 1610.06545. The classifier is
    gradient-boosted trees, which see interactions of bits; both sets are cut to the same length, and halved by
    the seed into training and test codes.

    Arguments:
        samples: uint8 (N, D).
        held_out: uint8 (M, D), codes that the prior was not fitted to.
        seed: Seed of the halves and of the classifier, from 0 to 2⁶⁴ − 1.

    Raises:
        PriorError: The seed is no such integer, the arrays are not codes of one length, or there are fewer than 20
            of either.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    seed = check_seed(seed)
    samples = check_bits("samples", samples, None)
    held_out = check_bits("held_out", held_out, samples.shape[1])
    count = min(len(samples), len(held_out))
    if count < 20:
        raise PriorError(f"there are {count} codes of either kind; expected at least 20", "draw more")
    half = count // 2
    pick = [
        np.sort(generator(seed, 2 + i).permutation(len(a))[:count]) for i, a in enumerate((samples, held_out))
    ]
    mixed = [
        a[p][generator(seed, 4).permutation(count)] for a, p in zip((samples, held_out), pick, strict=True)
    ]
    x = np.concatenate([part[:half] for part in mixed])
    y = np.repeat([0, 1], half)
    # Trees of bits need two bins; early stopping would spend codes on a third set.
    classifier = HistGradientBoostingClassifier(
        max_iter=100, max_bins=2, early_stopping=False, random_state=seed % 2**32
    )
    classifier.fit(x, y)
    right = [classifier.predict(part[half:]) == label for label, part in enumerate(mixed)]
    n = sum(len(part) for part in right)
    return TwoSample(float(np.concatenate(right).mean()), float(0.5 / np.sqrt(n)), n)


def nearest_distances(codes: Bits, references: Bits) -> Integers:
    """The Hamming distance of each code to its nearest reference, int64 (N,).

    Arguments:
        codes: uint8 (N, D).
        references: uint8 (M, D).

    Raises:
        PriorError: The arrays are not codes of one length.

    Example:
        >>> nearest_distances(np.array([[0, 1, 1]], np.uint8), np.array([[0, 0, 0], [0, 1, 0]], np.uint8))
        array([1])
    """
    codes = check_bits("codes", codes, None)
    against = check_bits("references", references, codes.shape[1]).astype(np.float32)
    blocks = (codes[start : start + BLOCK] for start in range(0, len(codes), BLOCK))
    return np.concatenate([hamming(block, against).min(1) for block in blocks]).astype(np.int64)
