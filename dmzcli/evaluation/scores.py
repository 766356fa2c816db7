r"""Scores between two sets of feature vectors, and how far a score would wander with other samples.

Values come from torch-fidelity. Intervals are ours: the delete-a-group jackknife over the *generated* images,
θ̂ ± 1.96 s with s² = (G − 1)/G Σ_g (θ_{−g} − θ̄)², where θ_{−g} leaves group g of G out. A bootstrap would not do:
its repeated images look like a smaller set, and the Fréchet distance of a smaller set is larger.

References:
    M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule …", 2017, arXiv 1706.08500 (Fréchet distance).
    M. Bińkowski et al., "Demystifying MMD GANs", 2018, arXiv 1801.01401 (kernel distance).
    T. Salimans et al., "Improved Techniques for Training GANs", 2016, arXiv 1606.03498 (inception score).
    T. Kynkäänniemi et al., "Improved Precision and Recall Metric …", 2019, arXiv 1904.06991.
    J. Shao, C. Wu, "A General Theory for Jackknife Variance Estimation", 1989 (groups).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray
GROUPS = 20
KERNEL_IMAGES = 10_000
"""Images of either set at most, one from each equal stretch, that kernel distance, precision and recall are computed
from: their cost grows with the product of the counts."""
SUBSET = 1000
"""Images of a kernel distance's subset, as published values have it; fewer where there are fewer."""
NEIGHBORS = 3


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        metric: Name of the metric.
        value: The score.
        error: Standard error over generated images; the reference is taken as given.
        left_out: The statistic without each group of images, (G,): what :func:`difference` pairs. Empty where it is
            not known.
    """

    metric: str
    value: float
    error: float
    left_out: tuple[float, ...] = ()

    @classmethod
    def jackknifed(cls, metric: str, value: float, left_out: Sequence[float]) -> Score:
        """A score whose error follows from the statistic without each group, (G,)."""
        return cls(metric, float(value), jackknife(left_out), tuple(float(v) for v in left_out))

    @property
    def interval(self) -> tuple[float, float]:
        """95%: value ± 1.96 standard errors, but no Fréchet distance below 0 and no share outside of 0 to 1."""
        low, high = self.value - 1.96 * self.error, self.value + 1.96 * self.error
        kind = self.metric.split("-")[0]
        share = kind in ("precision", "recall")
        return (max(low, 0.0) if share or kind == "fid" else low), (min(high, 1.0) if share else high)


@dataclass(frozen=True, eq=False)
class Moments:
    """What a Fréchet distance sees of a set of features.

    Attributes:
        count: N.
        mean: float64 (F,).
        covariance: float64 (F, F), unbiased.
    """

    count: int
    mean: Array
    covariance: Array

    @classmethod
    def of(cls, features: Array) -> Moments:
        """Of features (N, F)."""
        exact = features.astype(np.float64)
        return cls(len(exact), exact.mean(0), np.atleast_2d(np.cov(exact, rowvar=False)))


def groups(count: int, strata: Array | None = None) -> Array:
    """Which of :data:`GROUPS` groups each of ``count`` images is in, at random; the same for every set of a size.

    Every G-th would not do: of images whose classes take turns, each group would hold half of the classes only, and
    the interval would be that of leaving classes out.

    Arguments:
        count: N.
        strata: Integers (N,): the class that each image was asked for, if how many there are of each was not left to
            chance. Every group then has its share of each class, as every such set has: equal shares where a number
            of groups from 10 on divides the classes, else shares that differ by one image, which makes the interval
            somewhat too wide.
    """
    order, parts = np.random.RandomState(0).permutation(count), min(GROUPS, count)
    if strata is not None:
        classes = np.unique(np.asarray(strata), return_counts=True)[1]
        even = [g for g in range(GROUPS, GROUPS // 2 - 1, -1) if not np.gcd.reduce(classes) % g]
        parts = even[0] if even else max(2, min(parts, int(classes.min())))
        order = order[np.argsort(np.asarray(strata)[order], kind="stable")]
    member = np.empty(count, np.int64)
    member[order] = np.arange(count) % parts
    return member


def subset(count: int, most: int) -> Array:
    """At most ``most`` of ``count`` positions, in order, one at random from each of as many equal stretches.

    Sorted sets keep their mixture, and so do sets whose classes take turns.
    """
    if count <= most:
        return np.arange(count)
    bounds = np.arange(most + 1) * count // most
    return bounds[:-1] + (np.random.RandomState(0).rand(most) * np.diff(bounds)).astype(np.int64)


def jackknife(values: Sequence[float]) -> float:
    """The standard error of a statistic from its values with one group left out, (G,)."""
    left_out = np.asarray(values, np.float64)
    count = len(left_out)
    return float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))


def difference(first: Score, second: Score) -> Score:
    """First minus second, paired by groups: image i of both is in one group, and shares its noise.

    Raises:
        ValueError: The scores are of sets of different sizes, or do not know their groups.
    """
    if not first.left_out or len(first.left_out) != len(second.left_out):
        raise ValueError("the scores have no groups in common")
    without = np.subtract(first.left_out, second.left_out)
    name = f"difference of {first.metric}"  # which may be below 0
    return Score.jackknifed(name, first.value - second.value, without.tolist())


def frechet(generated: Array, reference: Moments, name: str = "fid", strata: Array | None = None) -> Score:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½) of features (N, F); for ``strata`` see :func:`groups`."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    own = Moments.of(generated)
    value = fid_statistics_to_metric(
        {"mu": own.mean, "sigma": own.covariance},
        {"mu": reference.mean, "sigma": reference.covariance},
        verbose=False,
    )[KEY_METRIC_FID]
    return Score.jackknifed(name, value, _frechet_left_out(generated, reference, strata))


def _frechet_left_out(generated: Array, reference: Moments, strata: Array | None = None) -> list[float]:
    """The distance without each group; from sums, and by symmetric matrices, which is many times faster."""
    values, vectors = np.linalg.eigh(reference.covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    center = reference.mean  # sums around it lose no digits
    shifted = generated.astype(np.float64) - center
    total, product, member = shifted.sum(0), shifted.T @ shifted, groups(len(shifted), strata)
    left_out = []
    for group in range(int(member.max()) + 1):
        left = shifted[member == group]
        count = len(shifted) - len(left)
        if count < 2:
            return [0.0]
        mean = (total - left.sum(0)) / count
        covariance = (product - left.T @ left - count * np.outer(mean, mean)) / (count - 1)
        mixed = np.linalg.eigvalsh(root @ covariance @ root)
        trace = (
            np.trace(covariance) + np.trace(reference.covariance) - 2 * np.sqrt(np.clip(mixed, 0, None)).sum()
        )
        left_out.append(float(mean @ mean + trace))
    return left_out


def kernel_distance(
    generated: Array, reference: Array, seed: int = 0, name: str = "kid", strata: Array | None = None
) -> Score:
    """Squared maximum mean discrepancy with the kernel (x·y / F + 1)³: the mean over 100 random subsets."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    value = kid_features_to_metric(
        torch.from_numpy(generated),
        torch.from_numpy(reference),
        kid_subset_size=min(SUBSET, len(generated), len(reference)),
        rng_seed=seed % 2**32,
        verbose=False,
    )[KEY_METRIC_KID_MEAN]
    return Score.jackknifed(name, value, _mmd_left_out(generated, reference, strata))


def _mmd_left_out(generated: Array, reference: Array, strata: Array | None = None) -> list[float]:
    """The unbiased estimate on all images, without each group, from sums of the kernel over pairs of groups."""

    def kernel(a: Array, b: Array) -> Array:
        return (a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1) ** 3

    member = groups(len(generated), strata)
    parts = [generated[member == group] for group in range(int(member.max()) + 1)]
    within = np.array([[kernel(a, b).sum() for b in parts] for a in parts])
    diagonal = np.array(
        [((np.square(a.astype(np.float64)).sum(1) / a.shape[1] + 1) ** 3).sum() for a in parts]
    )
    across = np.array([kernel(a, reference).sum() for a in parts])
    inside = 0.0
    for start in range(0, len(reference), 1000):
        inside += kernel(reference[start : start + 1000], reference).sum()
    own = ((np.square(reference.astype(np.float64)).sum(1) / reference.shape[1] + 1) ** 3).sum()
    second = (inside - own) / (len(reference) * (len(reference) - 1))
    left_out = []
    for group in range(len(parts)):
        keep = np.arange(len(parts)) != group
        count = len(generated) - len(parts[group])
        if count < 2:
            return [0.0]
        first = (within[np.ix_(keep, keep)].sum() - diagonal[keep].sum()) / (count * (count - 1))
        left_out.append(first + second - 2 * across[keep].sum() / (count * len(reference)))
    return left_out


def inception_score(
    logits: Array, seed: int = 0, name: str = "inception-score", strata: Array | None = None
) -> Score:
    """exp E KL(p(y | x) ‖ p(y)): the mean over ten parts of the shuffled images."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    def score(rows: Array) -> float:
        splits = min(10, max(1, len(rows) // 2))
        return isc_features_to_metric(torch.from_numpy(rows), splits, False)[KEY_METRIC_ISC_MEAN]

    # Shuffled once: another shuffle for every set that is left out would add its own noise to the interval.
    order = np.random.RandomState(seed % 2**32).permutation(len(logits))
    shuffled, member = logits[order], groups(len(logits), strata)[order]
    left_out = [score(shuffled[member != group]) for group in range(int(member.max()) + 1)]
    return Score.jackknifed(name, score(shuffled), left_out)


def precision_recall(
    generated: Array,
    reference: Array,
    names: tuple[str, str] = ("precision", "recall"),
    strata: Array | None = None,
) -> tuple[Score, Score]:
    """The shares of generated images within the reference's 3-nearest-neighbor balls, and the other way around."""
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    fake, real = torch.from_numpy(generated), torch.from_numpy(reference)
    values = prc_features_to_metric(
        fake, real, prc_neighborhood=NEIGHBORS, prc_batch_size=1000, save_cpu_ram=True, verbose=False
    )
    inside, covered = _balls_left_out(fake, real, strata)
    return (
        Score.jackknifed(names[0], values[KEY_METRIC_PRECISION], inside),
        Score.jackknifed(names[1], values[KEY_METRIC_RECALL], covered),
    )


def _balls_left_out(
    fake: torch.Tensor, real: torch.Tensor, strata: Array | None = None
) -> tuple[list[float], list[float]]:
    """Precision and recall without each group of generated images."""
    member = torch.from_numpy(groups(len(fake), strata))
    count = int(member.max()) + 1
    radius = torch.cat([torch.cdist(p, real).kthvalue(NEIGHBORS + 1).values for p in real.split(1000)])
    within = torch.cat([(torch.cdist(p, real) <= radius).any(1) for p in fake.split(1000)]).double()
    inside = [float(within[member != group].mean()) for group in range(count)]
    # A ball grows when a neighbor that spans it is left out: keep some more neighbors than are needed.
    margin = min(len(fake), NEIGHBORS + 1 + 8)
    near = [torch.cdist(p, fake).topk(margin, largest=False) for p in fake.split(1000)]
    distances, neighbors = torch.cat([n.values for n in near]), torch.cat([n.indices for n in near])
    covered = torch.zeros(count, dtype=torch.float64)
    radii = []
    for group in range(count):
        remaining = (member[neighbors] != group).cumsum(1)
        position = (remaining < NEIGHBORS + 1).sum(1).clamp_max(margin - 1)
        grown = distances.gather(1, position[:, None])[:, 0]
        grown[member == group] = -1  # a ball that is left out covers nothing
        radii.append(grown)
    for part in real.split(500):
        between = torch.cdist(part, fake)
        for group, grown in enumerate(radii):
            covered[group] += (between <= grown).any(1).sum()
    return inside, (covered / len(real)).tolist()
