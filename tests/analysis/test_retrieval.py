"""Hamming retrieval against a ranking written out, and where its value is known."""

import dataclasses

import numpy as np
import pytest

from dmzcli.analysis.retrieval import ranked, retrieve
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError


def table_of(bits, labels, split):
    count = len(bits)
    return BitTable(
        bits=bits.astype(np.uint8),
        split=split.astype(np.uint8),
        index=np.arange(count),
        family="bernoulli",
        cardinalities=np.full(bits.shape[1], 2),
        dataset="made/1x1x1/0",
        model="0" * 64,
        created="now",
        labels=labels.astype(np.int64),
        label_names=tuple("abcdefghij"[: labels.max() + 1]),
    )


def test_average_precision_is_that_of_a_ranking_written_out():
    rng = np.random.default_rng(0)
    rows, queries = rng.integers(0, 2, (50, 6)), rng.integers(0, 2, (7, 6))
    answers, asked = rng.integers(0, 3, 50), rng.integers(0, 3, 7)
    average, found = ranked(queries, asked, rows, answers, 20, depths=(5,))
    for query, label, one, five in zip(queries, asked, average, found[5], strict=True):
        order = sorted(range(50), key=lambda i, query=query: int((rows[i] != query).sum()))
        relevant = [answers[i] == label for i in order]
        precisions = [sum(relevant[: r + 1]) / (r + 1) for r in range(20) if relevant[r]]
        assert one == pytest.approx(np.mean(precisions) if precisions else 0, abs=1e-6)
        assert five == pytest.approx(sum(relevant[:5]) / 5, abs=1e-6)


def test_codes_that_name_the_class_find_all_of_it_and_chance_finds_its_share():
    labels = np.arange(600) % 3
    split = np.repeat([0, 1, 2], [400, 100, 100])
    told = table_of(np.eye(3)[labels], labels, split)
    assert retrieve(told).mean_average_precision == 1 and retrieve(told).precision[10] == 1
    nothing = retrieve(table_of(np.zeros((600, 3)), labels, split))
    assert nothing.chance == pytest.approx(1 / 3, abs=0.01)
    # All rows at one distance: precision@100 of 100 queries shares one order; 5 √(2/9/100) = 0.24.
    assert nothing.precision[100] == pytest.approx(1 / 3, abs=0.24)
    # Sorted by class, the order of the table would have given each query of a class 1 or 0.
    by_class = np.sort(labels)
    rng = np.random.default_rng(0)
    sorted_table = table_of(np.zeros((600, 3)), by_class, rng.permutation(split))
    assert retrieve(sorted_table).precision[10] == pytest.approx(1 / 3, abs=0.35)


def test_the_hashing_protocol_by_name():
    labels = np.arange(3000) % 2
    split = np.repeat([0, 1, 2], [400, 100, 2500])
    made = retrieve(table_of(np.eye(2)[labels], labels, split), "cifar10-hashing")
    assert (made.queries, made.database, made.depth) == (2000, 1000, 1000)


def test_what_cannot_be_retrieved_is_said():
    table = table_of(np.eye(2)[np.arange(10) % 2], np.arange(10) % 2, np.zeros(10))
    with pytest.raises(UserError, match=r"^no row of the bit table asks$"):
        retrieve(table)
    with pytest.raises(UserError, match=r"^unknown retrieval protocol 'x'$"):
        retrieve(table, "x")
    with pytest.raises(UserError, match=r"^the bit table has no labels$"):
        retrieve(dataclasses.replace(table, labels=None, label_names=()))
