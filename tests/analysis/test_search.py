"""Hamming search against brute force: both engines, ties too; near-duplicates and clusters."""

import numpy as np
import pytest

from dmzcli.analysis import search
from dmzcli.analysis.search import CodeIndex, clusters, near_pairs, packed
from dmzcli.errors import UserError

needs_faiss = pytest.mark.skipif(not search.has_faiss(), reason="FAISS is not installed")
ENGINES = ["numpy", pytest.param("faiss", marks=needs_faiss)]


def codes(count, dim, seed=0, centers=0, flips=0.1):
    """uint8 (count, dim): fair coins, or flips of a few centers, which have many ties."""
    rng = np.random.default_rng(seed)
    if not centers:
        return rng.integers(0, 2, (count, dim), dtype=np.uint8)
    means = rng.integers(0, 2, (centers, dim), dtype=np.uint8)
    return means[rng.integers(0, centers, count)] ^ (rng.random((count, dim)) < flips)


def brute(bits, queries, k):
    distances = (queries[:, None] != bits[None]).sum(2)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(distances, rows, 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("count", "dim", "k"),
    [(1, 8, 1), (7, 3, 20), (500, 17, 5), (2000, 64, 20), (1500, 128, 10), (800, 300, 7)],
)
@pytest.mark.parametrize("centers", [0, 3])
def test_the_nearest_are_those_of_brute_force_with_ties_by_row(engine, count, dim, k, centers):
    bits = codes(count, dim, dim, centers)
    queries = np.concatenate([bits[: min(5, count)], codes(9, dim, 1)])
    found = CodeIndex(packed(bits), engine).nearest(packed(queries), k)
    rows, distances = brute(bits, queries, k)
    assert np.array_equal(found.distances, distances)
    assert np.array_equal(found.rows, rows)


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_beyond_one_block_and_core_go_to_the_first_rows(engine, monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 64)
    monkeypatch.setattr(search, "cores", lambda: 3)
    bits = codes(1000, 6)  # 64 codes, each some 16 times
    found = CodeIndex(packed(bits), engine).nearest(packed(bits[:20]), 30)
    rows, distances = brute(bits, bits[:20], 30)
    assert np.array_equal(found.rows, rows) and np.array_equal(found.distances, distances)


def test_opposite_codes_of_many_bits_are_as_far_as_they_are():
    """Distances beyond 255 do not wrap."""
    bits = np.stack([np.zeros(512, np.uint8), np.ones(512, np.uint8)])
    assert CodeIndex(packed(bits), "numpy").nearest(packed(bits[:1]), 2).distances.tolist() == [[0, 512]]


def test_no_query_finds_nothing():
    found = CodeIndex(packed(codes(10, 8)), "numpy").nearest(np.empty((0, 1), np.uint8), 3)
    assert found.rows.shape == found.distances.shape == (0, 3)


@pytest.mark.parametrize("radius", [1, 2, 3, 7, 12, 20])
@pytest.mark.parametrize("centers", [0, 4])
def test_near_pairs_are_those_of_brute_force(radius, centers, monkeypatch):
    monkeypatch.setattr(search, "PAIRS", 300)
    bits = np.unique(codes(220, 12, 5, centers), axis=0)
    pairs, distances = near_pairs(bits, radius)
    every = (bits[:, None] != bits[None]).sum(2)
    i, j = np.nonzero(np.triu(every <= radius, 1))
    assert np.array_equal(pairs, np.stack([i, j], 1))
    assert np.array_equal(distances, every[i, j])


def test_clusters_are_joined_by_steps():
    zero, one, two, far = [0] * 8, [1] + [0] * 7, [1, 1] + [0] * 6, [1] * 8
    bits = np.array([far, zero, two, zero, one, far], np.uint8)
    assert clusters(bits, 0).tolist() == [0, 1, 2, 1, 3, 0]
    assert clusters(bits, 1).tolist() == [1, 0, 0, 0, 0, 1]
    assert clusters(bits, 8).tolist() == [0] * 6


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: CodeIndex(np.zeros((2, 3), np.int64)), "not packed"),
        (lambda: CodeIndex(np.zeros((0, 3), np.uint8)), "not packed"),
        (lambda: CodeIndex(np.zeros((2, 3), np.uint8), "annoy"), "no search engine 'annoy'"),
        (lambda: CodeIndex(np.zeros((2, 3), np.uint8)).nearest(np.zeros((1, 4), np.uint8), 1), "3 bytes"),
        (lambda: CodeIndex(np.zeros((2, 3), np.uint8)).nearest(np.zeros((1, 3), np.uint8), 0), "0 neighbors"),
        (lambda: clusters(np.zeros((2, 3), np.uint8), -1), "-1 bits"),
    ],
)
def test_what_cannot_be_searched_is_refused(wrong, says):
    with pytest.raises(UserError, match=says):
        wrong()


def test_without_faiss_numpy_searches(monkeypatch):
    monkeypatch.setattr(search, "has_faiss", lambda: False)
    assert CodeIndex(packed(codes(10, 8))).engine == "numpy"
    with pytest.raises(UserError, match="not installed"):
        CodeIndex(packed(codes(10, 8)), "faiss")
