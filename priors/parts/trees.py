r"""Trees over bits: p(b | g) = Π_i p(b_i | b_π(i)), where the parent π(i) is a bit, a given bit, or none.

The tree of maximum likelihood is the spanning tree of maximum mutual information (Chow and Liu,
"Approximating discrete probability distributions with dependence trees", IEEE Transactions on Information
Theory 14, 1968, doi:10.1109/TIT.1968.1054142). With given bits it grows from all of them at once: they
never have parents, so that the product over the other bits is the exact conditional of the joint tree.

Variables are numbered given bits first: v = (g, b), V = G + D.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from priors.arrays import Bits, Float32, Float64, Floats
from priors.fit import Rows
from priors.parts.numerics import sigmoid
from priors.storage import State

LEAST = 1e-9  # least probability of a cell, so that no logarithm is infinite
MOST_ROWS, MOST_PRODUCTS = 2048, 2**23  # of a block, which bound its memory


@dataclasses.dataclass(frozen=True)
class Trees:
    """K trees.

    Attributes:
        parent: int32 (K, D), the variable that bit i depends on, or −1.
        order: int32 (K, D), the bits so that parents come before children.
        table: float64 (K, D, 2, 2), log p(b_i = y | v_π(i) = x) at [k, i, x, y].
    """

    parent: NDArray[np.int32]
    order: NDArray[np.int32]
    table: Float64

    def __len__(self) -> int:
        return len(self.parent)


def join(parts: list[Trees]) -> Trees:
    """All trees of several collections, in their order."""
    names = [field.name for field in dataclasses.fields(Trees)]
    return Trees(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def variables(rows: Rows) -> Float32:
    """v = (g, b), float32 (N, V)."""
    bits = rows.bits.astype(np.float32)
    return bits if rows.given is None else np.hstack([rows.given.astype(np.float32), bits])


def pair_counts(variables: Float32, weights: Float32 | None = None) -> Float64:
    """Σ_n w_n v_n v_nᵀ (V, V): how often both are set; the diagonal counts single variables."""
    if weights is not None:
        variables = variables * np.sqrt(weights)[:, None]
    return (variables.T @ variables).astype(np.float64)


def shrink(counts: Float64, n: float, toward: Float64, weight: float) -> Float64:
    """Pairwise marginals from counts of ``n`` codes, shrunk by ``weight`` codes' worth of ``toward``."""
    return (counts + weight * toward) / (n + weight)


def independent(pairs: Float64, n: float) -> Float64:
    """Pairwise marginals of independent variables with the smoothed marginals of ``pairs``, (V, V)."""
    single = (np.diag(pairs) + 0.5) / (n + 1)
    product = np.outer(single, single)
    np.fill_diagonal(product, single)
    return product


def _cells(pairs: Float64) -> Float64:
    """p(v_i = x, v_j = y) at [x, y, i, j] from p(v_i = 1, v_j = 1)."""
    single = np.diag(pairs)
    p10 = single[:, None] - pairs
    p00 = 1 - single[:, None] - single[None] + pairs
    return np.maximum(np.array([[p00, p10.T], [p10, pairs]]), LEAST)


def mutual_information(pairs: Float64) -> Float64:
    """I(v_i; v_j) in nats (V, V) from the pairwise marginals p(v_i = 1, v_j = 1), to about 1e-6.

    The logarithms are those of float32, which take a tenth of the time.
    """
    single = np.clip(np.diag(pairs), LEAST, 1 - LEAST)
    entropy = -(single * np.log(single) + (1 - single) * np.log1p(-single))
    out = entropy[:, None] + entropy
    p10 = single[:, None] - pairs
    for cell in (pairs, p10, p10.T, 1 - single - p10):  # 11, 10, 01, 00
        p = np.maximum(cell, LEAST).astype(np.float32)
        out += p * np.log(p)
    return out


def information(bits: Bits) -> Float64:
    """The mutual information of every pair of bits (D, D), in nats, from codes (N, D)."""
    pairs = pair_counts(bits.astype(np.float32))
    return mutual_information(shrink(pairs, len(bits), independent(pairs, len(bits)), 1.0))


def spanning_tree(weights: Float64, roots: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The spanning tree of maximum weight, grown from the first ``roots`` variables (Prim).

    Arguments:
        weights: Symmetric (V, V).
        roots: G; with 0 the first variable is the root and has no parent.

    Returns:
        Parents (V − G,) of the other variables, and their order (V − G,), numbered from 0.
    """
    size = len(weights)
    parent = np.full(size, -1, np.int32)
    first = max(roots, 1)
    source = weights[:first].argmax(0).astype(np.int32)
    best = weights[:first].max(0)
    best[:first] = -np.inf
    order = [] if roots else [0]
    for _ in range(size - first):
        j = int(best.argmax())
        parent[j] = source[j]
        order.append(j - roots)
        best[j] = -np.inf
        closer = (weights[j] > best) & np.isfinite(best)
        best[closer], source[closer] = weights[j][closer], j
    return parent[roots:], np.array(order, np.int32)


def fit_tree(pairs: Float64, roots: int) -> Trees:
    """The Chow–Liu tree of pairwise marginals p(v_i = 1, v_j = 1), (V, V), as one of :class:`Trees`."""
    parent, order = spanning_tree(mutual_information(pairs), roots)
    rows = np.arange(roots, len(pairs))
    source = np.where(parent < 0, rows, parent)
    joint = _cells(pairs)[:, :, source, rows]  # at [parent's value, own value, bit]
    single = np.diag(pairs)[rows]
    free = np.maximum(np.array([1 - single, single]), LEAST)
    joint = np.where(parent < 0, free[None], joint)
    table = np.log(joint / joint.sum(1, keepdims=True))
    return Trees(parent[None], order[None], table.transpose(2, 0, 1)[None])


class Likelihood:
    r"""log p_k(b | g) of all trees at once, by matrix products.

    With t = ``table``, one factor is linear in x = v_π, y = b_i and their product:

    .. math:: t_{00} + (t_{01} - t_{00}) y + (t_{10} - t_{00}) x + (t_{11} - t_{10} - t_{01} + t_{00}) x y

    The trees share edges, so the products are made once per distinct edge.

    Arguments:
        trees: K trees.
        given_dim: Given bits, G.
        dtype: float32 for expectation steps, float64 for likelihoods that are reported.
    """

    def __init__(self, trees: Trees, given_dim: int, dtype: Any = np.float64) -> None:
        k, dim = trees.parent.shape
        size = given_dim + dim
        t, parent = trees.table, trees.parent.astype(np.int64)
        own = np.broadcast_to(np.arange(given_dim, size), (k, dim))
        tree = np.broadcast_to(np.arange(k)[:, None], (k, dim))
        linear = np.zeros((k, size))
        linear[:, given_dim:] = t[:, :, 0, 1] - t[:, :, 0, 0]
        child = parent >= 0
        slope = t[:, :, 1, 0] - t[:, :, 0, 0]
        np.add.at(linear, (tree[child], parent[child]), slope[child])
        both = t[:, :, 1, 1] - t[:, :, 1, 0] - t[:, :, 0, 1] + t[:, :, 0, 0]
        low, high = np.minimum(parent, own)[child], np.maximum(parent, own)[child]
        edges, index = np.unique(low * size + high, return_inverse=True)
        self._low, self._high = edges // size, edges % size
        shape = (k, len(edges))
        self._both = csr_matrix((both[child], (tree[child], index)), shape).astype(dtype)
        self._linear, self._constant = linear.astype(dtype), t[:, :, 0, 0].sum(1).astype(dtype)
        self._dtype = dtype

    def __call__(self, variables: NDArray[Any]) -> Floats:
        """(K, N) log-likelihoods in nats of variables (N, V)."""
        out = np.empty((len(self._constant), len(variables)), self._dtype)
        size = min(MOST_ROWS, max(1, MOST_PRODUCTS // max(1, len(self._low))))
        for at in range(0, len(variables), size):
            columns = np.ascontiguousarray(variables[at : at + size].T.astype(self._dtype))
            products = columns[self._low]
            products *= columns[self._high]
            out[:, at : at + size] = self._both @ products + self._linear @ columns
        return out + self._constant[:, None]


def sample(trees: Trees, which: NDArray[np.intp], u: Float32, given: Bits | None, temperature: float) -> Bits:
    """Draws a code per row from the row's tree, bit after bit in its order.

    Arguments:
        trees: K trees.
        which: The tree of each row, (R,).
        u: Uniform numbers (R, D).
        given: uint8 (R, G), or ``None``.
        temperature: Divides the log-odds of every bit.

    Returns:
        uint8 (R, D).
    """
    rows, dim = u.shape
    roots = 0 if given is None else given.shape[1]
    odds = (trees.table[..., 1] - trees.table[..., 0]) / temperature
    p = sigmoid(odds).astype(np.float32).ravel()  # (K, D, 2), flattened
    values = np.zeros((roots + dim + 1, rows), np.uint8)  # the last row stands for no parent: always 0
    if given is not None:
        values[:roots] = given.T
    uniforms, flat, every = np.ascontiguousarray(u.T).ravel(), values.ravel(), np.arange(rows)
    parent = np.where(trees.parent < 0, roots + dim, trees.parent).astype(np.int64)
    one = len(trees) == 1
    for t in range(dim):
        i = trees.order[:, t].astype(np.int64)
        above = parent[np.arange(len(trees)), i]
        base = (np.arange(len(trees)) * dim + i) * 2
        if not one:
            i, above, base = i[which], above[which], base[which]
        x = flat[above * rows + every]
        flat[(roots + i) * rows + every] = uniforms[i * rows + every] < p[base + x]
    return np.ascontiguousarray(values[roots : roots + dim].T)


def state(trees: Trees) -> State:
    """The arrays of a collection by name."""
    return {field.name: getattr(trees, field.name) for field in dataclasses.fields(Trees)}


def from_state(arrays: State, dim: int) -> Trees:
    """The collection that :func:`state` took apart; ValueError where the shapes do not fit."""
    parent, order, table = arrays["parent"], arrays["order"], arrays["table"]
    if parent.shape[1] != dim or order.shape != parent.shape or table.shape != (*parent.shape, 2, 2):
        raise ValueError(f"trees over {parent.shape[1]} bits; expected {dim}")
    return Trees(parent, order, table)


def parameters(trees: Trees) -> int:
    """Free probabilities: one for a bit without a parent, two for one with."""
    return int(trees.parent.size + (trees.parent >= 0).sum())
