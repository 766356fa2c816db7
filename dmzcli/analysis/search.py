"""Hamming search: the codes of a table that differ from a query in the fewest bits, near-duplicates, clusters.

The distance of two codes is popcount(a xor b). FAISS's binary index finds the nearest where it is installed; else
NumPy counts the bits of 64 at a time, block by block, on every core. Both are exact, and agree also on ties: those
in the first rows win.

M. Norouzi, A. Punjani, D. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", 2012, for the
near-duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dmzcli.data.decoding import workers as cores
from dmzcli.errors import UserError

Array = np.ndarray
BLOCK = 1 << 15
"""Rows at a time: their words and distances stay in a core's cache."""
PAIRS = 1 << 22
"""Pairs of one bucket that are compared at a time."""
ENGINES = ("faiss", "numpy")


class Neighbors(NamedTuple):
    """The nearest codes of Q queries, nearest first, the first rows first among equals.

    Attributes:
        rows: Positions in the index, int64 (Q, k).
        distances: Bits that differ, int64 (Q, k).
    """

    rows: Array
    distances: Array


def has_faiss() -> bool:
    """Whether FAISS is installed."""
    return find_spec("faiss") is not None


def pick_engine(name: str | None = None) -> str:
    """The engine of a name; by default FAISS where it is installed, else NumPy.

    Raises:
        UserError: There is no such engine, or FAISS is not installed.
    """
    if name is not None and name not in ENGINES:
        raise UserError(f"no search engine '{name}'", f"use {' or '.join(ENGINES)}")
    if name == "faiss" and not has_faiss():
        raise UserError("FAISS is not installed", "pip install 'dmz[search]', or search with --engine numpy")
    return name or ("faiss" if has_faiss() else "numpy")


def packed(bits: Array) -> Array:
    """uint8 (N, D) of 0 and 1 as uint8 (N, ⌈D/8⌉), eight to a byte, as bit tables hold them."""
    return np.packbits(bits, axis=1, bitorder="big")


def as_words(codes: Array) -> Array:
    """Packed codes uint8 (N, B) as uint64 (⌈B/8⌉, N), zeros behind: one row of words after the other."""
    count, width = codes.shape
    words = np.zeros((-(-width // 8), count), np.uint64)
    for number in range(len(words)):
        part = codes[:, 8 * number : 8 * number + 8]
        words[number].view(np.uint8).reshape(count, 8)[:, : part.shape[1]] = part
    return words


class CodeIndex:
    """Codes to search among.

    Arguments:
        codes: Packed, uint8 (N, ⌈D/8⌉), see :func:`packed`; bits beyond D are zeros.
        engine: ``faiss`` or ``numpy``; by default FAISS where it is installed.

    Raises:
        UserError: There are no codes, the engine is unknown, or FAISS is not installed.
    """

    def __init__(self, codes: Array, engine: str | None = None) -> None:
        if codes.ndim != 2 or codes.dtype != np.uint8 or not codes.size:
            raise UserError(
                f"codes are {codes.dtype} {codes.shape}, not packed uint8 (N, bytes)",
                "pack bits eight to a byte",
            )
        self.engine = pick_engine(engine)
        self.count, self.width = codes.shape
        if self.engine == "faiss":
            import faiss

            self._faiss: Any = faiss.IndexBinaryFlat(8 * self.width)
            self._faiss.add(np.ascontiguousarray(codes))
        else:
            self._words = as_words(codes)

    def nearest(self, queries: Array, k: int) -> Neighbors:
        """The k nearest codes of each query; all codes where there are fewer.

        Arguments:
            queries: Packed codes, uint8 (Q, ⌈D/8⌉).
            k: At least 1.

        Raises:
            UserError: The queries have another length than the codes, or k is below 1.
        """
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise UserError(
                f"queries have shape {queries.shape}, the codes have {self.width} bytes",
                "search among codes of one model",
            )
        if k < 1:
            raise UserError(f"{k} neighbors are none", "ask for 1 or more")
        k = min(k, self.count)
        if self.engine == "faiss":
            # All queries in one pass over the codes: it is memory that limits, and the usual 32 need several.
            self._faiss.query_batch_size = max(1, len(queries))
            distances, rows = self._faiss.search(np.ascontiguousarray(queries), k)
            return _ordered(rows.astype(np.int64), distances.astype(np.int64), k)
        return self._count(as_words(queries), k)

    def _count(self, queries: Array, k: int) -> Neighbors:
        """By NumPy: every core takes a run of rows, and the best of all runs are the nearest."""
        workers = max(1, min(cores(), self.count // BLOCK))
        edges = [self.count * i // workers for i in range(workers + 1)]
        with ThreadPoolExecutor(workers) as pool:
            runs = list(pool.map(lambda i: self._run(queries, k, edges[i], edges[i + 1]), range(workers)))
        rows = [np.concatenate([run[q][0] for run in runs]) for q in range(queries.shape[1])]
        distances = [np.concatenate([run[q][1] for run in runs]) for q in range(queries.shape[1])]
        found = [_ordered(r[None], d[None], k) for r, d in zip(rows, distances, strict=True)]
        empty = [Neighbors(np.empty((0, k), np.int64), np.empty((0, k), np.int64))]
        return Neighbors(*(np.concatenate(column) for column in zip(*(found or empty), strict=True)))

    def _run(self, queries: Array, k: int, start: int, stop: int) -> list[tuple[Array, Array]]:
        """The best k of the rows from ``start`` to ``stop``, for each query: rows and distances, in no order."""
        small: type[np.unsignedinteger] = np.uint8 if 64 * len(queries) < 256 else np.uint16
        best = [(np.empty(0, np.int64), np.empty(0, np.int64)) for _ in range(queries.shape[1])]
        # A code enters if it is nearer than the k-th best so far; equal ones come later, and lose.
        limits = [64 * len(queries) + 1] * queries.shape[1]
        for first in range(start, stop, BLOCK):
            last = min(first + BLOCK, stop)
            block = self._words[:, first:last]
            differing, counts = np.empty(last - first, np.uint64), np.empty(last - first, np.uint8)
            distance: Array = np.empty(last - first, small)
            for q in range(queries.shape[1]):
                np.bitwise_xor(block[0], queries[0, q], out=differing)
                np.bitwise_count(differing, out=counts)
                distance[:] = counts
                for word in range(1, len(block)):
                    np.bitwise_xor(block[word], queries[word, q], out=differing)
                    np.bitwise_count(differing, out=counts)
                    distance += counts
                rows = np.flatnonzero(distance < limits[q])
                if not len(rows):
                    continue
                near = _ordered(
                    np.concatenate([best[q][0], rows + first])[None],
                    np.concatenate([best[q][1], distance[rows].astype(np.int64)])[None],
                    k,
                )
                best[q] = near.rows[0], near.distances[0]
                if len(best[q][1]) == k:
                    limits[q] = int(best[q][1][-1])
        return best


def _ordered(rows: Array, distances: Array, k: int) -> Neighbors:
    """The k nearest of some (Q, M), nearest first, then the first rows."""
    order = np.lexsort((rows, distances), axis=1)[:, :k]
    return Neighbors(np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1))


def near_pairs(bits: Array, radius: int) -> tuple[Array, Array]:
    """All pairs of *distinct* codes that differ in at most ``radius`` bits, exactly.

    Two such codes agree in at least one of radius + 1 pieces of them (the pigeonhole principle): only codes that share
    a piece are compared.

    Arguments:
        bits: uint8 (N, D) of 0 and 1, no two rows equal.
        radius: At least 1.

    Returns:
        Pairs of positions i < j, int64 (P, 2), ascending; and their distances, int64 (P,).
    """
    dim = bits.shape[1]
    words = as_words(packed(bits))
    edges = np.linspace(0, dim, min(radius + 1, dim) + 1).astype(np.int64)
    pieces = [packed(bits[:, low:high]) for low, high in pairwise(edges)]
    keys = np.stack([np.unique(piece, axis=0, return_inverse=True)[1].ravel() for piece in pieces])
    if radius >= dim:  # no piece need be shared: all are compared
        keys = np.zeros((1, len(bits)), np.int64)
    found: list[tuple[Array, Array]] = []
    for number, key in enumerate(keys):
        for i, j in _within(key):
            # A pair that shares several pieces is told by the first of them.
            first = (keys[:number, i] != keys[:number, j]).all(0)
            i, j = i[first], j[first]
            distance = np.bitwise_count(words[:, i] ^ words[:, j]).sum(0, dtype=np.int64)
            near = distance <= radius
            found.append((np.stack([i[near], j[near]], 1), distance[near]))
    pairs = np.concatenate([np.empty((0, 2), np.int64), *(p for p, _ in found)])
    distances = np.concatenate([np.empty(0, np.int64), *(d for _, d in found)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], distances[order]


def _within(key: Array) -> Iterator[tuple[Array, Array]]:
    """Pairs of positions i < j of equal keys, in bounded numbers at a time."""
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    ends = np.append(starts[1:], len(key))
    # Position p of the order pairs with all that follow it in its bucket.
    following = np.repeat(ends, ends - starts) - np.arange(len(key)) - 1
    done = 0
    while done < len(key):
        sums = np.cumsum(following[done : done + PAIRS])
        upto = done + max(1, int(np.searchsorted(sums, PAIRS, side="right")))
        counts = following[done:upto]
        left = np.repeat(np.arange(done, upto), counts)
        offset = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
        if len(left):
            yield order[left], order[left + 1 + offset]
        done = upto


def clusters(bits: Array, radius: int = 0) -> Array:
    """Groups of codes that are joined by steps of at most ``radius`` bits (single linkage); 0 joins equal codes alone.

    Arguments:
        bits: uint8 (N, D) of 0 and 1.
        radius: Bits of one step.

    Returns:
        The group of each code, int64 (N,): 0 is the largest, then in falling order, equal ones by their first row.

    Raises:
        UserError: The radius is negative.
    """
    if radius < 0:
        raise UserError(f"no two codes differ in {radius} bits", "use a radius of 0 or more")
    unique, inverse = np.unique(packed(bits), axis=0, return_inverse=True)
    group = np.arange(len(unique))
    if radius and len(unique) > 1:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        distinct = np.unpackbits(unique, axis=1, count=bits.shape[1], bitorder="big")
        pairs, _ = near_pairs(distinct, radius)
        graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (len(unique), len(unique)))
        group = connected_components(graph, directed=False)[1]
    group = group[inverse.ravel()]
    _, first, sizes = np.unique(group, return_index=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[group]
