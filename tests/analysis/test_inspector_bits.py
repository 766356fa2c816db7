"""Per-bit statistics and those of the code, on bits that are planted functions of planted factors."""

import numpy as np
import pytest
from scipy.stats import binom

from dmzcli.analysis.inspector import bits as per_bit
from dmzcli.analysis.inspector.bits import LEVEL, Factor, dependence, entropy, equals, holm
from dmzcli.analysis.inspector.code import clustered, code_statistics, pairwise_information

SEEDS = 100


def planted(seed, count=2000):
    """Bits of which some are known functions of factors; the pairs that depend."""
    rng = np.random.default_rng(seed)
    label = rng.choice(5, count, p=[0.4, 0.3, 0.2, 0.095, 0.005])  # the last class is rare
    attributes = (rng.random((count, 3)) < [0.5, 0.3, 0.004]).astype(np.uint8)  # the last attribute, too
    bits = rng.integers(0, 2, (count, 12), dtype=np.uint8)
    bits[:, 0] = attributes[:, 0]
    bits[:, 1] = attributes[:, 1] ^ (rng.random(count) < 0.2)
    bits[:, 2] = np.isin(label, [0, 2]) ^ (rng.random(count) < 0.3)
    bits[:, 3] = 1 - bits[:, 0]
    bits[:, 4] = bits[:, 1]
    bits[:, 5] = 1
    bits[:, 6] = rng.random(count) < 0.004  # rare, and nobody's
    known = [Factor("class", label.astype(np.int64), tuple("abcde"))]
    known += [Factor(f"a{i}", attributes[:, i].astype(np.int64), ("0", "1")) for i in range(3)]
    return bits, known, {(0, "a0"), (3, "a0"), (1, "a1"), (4, "a1"), (2, "class")}


def test_exactly_the_planted_dependencies_are_found_over_a_hundred_seeds():
    """All true ones at every seed; a false alarm at no more seeds than the level explains.

    False alarms come at each seed with probability 0.05 at most: of 100 seeds more than the 99.9% quantile of that
    binomial would have one only once in a thousand such tests.
    """
    alarmed, tests = 0, set()
    for seed in range(SEEDS):
        bits, known, true = planted(seed)
        findings = dependence(bits, known, seed)
        assert len(findings) == 11 * 4
        tests |= {finding.test for finding in findings}
        found = {(f.bit, f.factor) for f in findings if f.adjusted < LEVEL}
        assert true <= found
        alarmed += bool(found - true)
    assert tests == {"G", "Fisher", "permutation"}
    assert alarmed <= binom.ppf(0.999, SEEDS, LEVEL)


def test_the_correction_is_needed():
    """Without Holm's correction, most seeds of the same test have false alarms."""
    alarmed = 0
    for seed in range(20):
        bits, known, true = planted(seed)
        alarmed += any(f.p < LEVEL and (f.bit, f.factor) not in true for f in dependence(bits, known, seed))
    assert alarmed > 10


@pytest.mark.parametrize("rate", [0.5, 0.05])
def test_p_values_of_independent_bits_are_not_too_small(rate):
    """P(p ≤ 0.05) is 0.05 at most, up to four standard errors of 400 bits, for the χ² and for both exact tests."""
    rng = np.random.default_rng(1)
    for sizes in ((200, 200), (150, 150, 100), (196, 4), (150, 246, 4)):
        label = np.repeat(np.arange(len(sizes)), sizes)
        bits = (rng.random((len(label), 400)) < rate).astype(np.uint8)
        p = np.array([f.p for f in dependence(bits, [Factor("class", label, tuple(map(str, sizes)))])])
        assert (p <= 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / len(p))


def test_information_is_unbiased_where_there_is_none_and_the_plug_in_is_not():
    """Over 400 bits; the tolerance is four standard errors of their mean."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (500, 400), dtype=np.uint8)
    found = dependence(bits, [Factor("class", rng.integers(0, 10, 500), tuple("abcdefghij"))])
    corrected, plug_in = (np.array([getattr(f, name) for f in found]) for name in ("information", "plug_in"))
    error = corrected.std() / np.sqrt(len(found))
    assert abs(corrected.mean()) < 4 * error < plug_in.mean()


def test_information_of_a_copy_is_its_entropy():
    attribute = np.arange(1000) % 4 == 0
    found = dependence(
        attribute[:, None].astype(np.uint8), [Factor("a", attribute.astype(np.int64), ("0", "1"))]
    )
    assert found[0].plug_in == pytest.approx(entropy(np.array(0.25)))
    assert found[0].rates == (0.0, 1.0)


def test_duplicates_negations_and_dead_bits_are_found():
    bits, _, _ = planted(3)
    duplicates, negations, constant = equals(bits)
    assert (duplicates, negations, constant) == ({4: 1}, {3: 0}, [5])


def test_entropy_and_holm():
    assert entropy(np.array([0.0, 0.5, 1.0])).tolist() == [0.0, 1.0, 0.0]
    assert holm(np.array([])).tolist() == []
    assert holm(np.array([0.5, 0.001, 0.9])).tolist() == pytest.approx([1.0, 0.003, 1.0])


def test_a_factor_of_one_value_and_a_class_without_rows_are_left_out():
    bits = np.random.default_rng(0).integers(0, 2, (50, 3), dtype=np.uint8)
    assert dependence(bits, [Factor("class", np.zeros(50, np.int64), ("a", "b"))]) == []
    found = dependence(bits, [Factor("class", np.arange(50) % 2 * 2, ("a", "b", "c"))])
    assert len(found) == 3 and found[0].rates[1] is None


def blocks(seed=0, count=4000):
    """Nine bits in three groups that depend inside alone, interleaved."""
    rng = np.random.default_rng(seed)
    centers = rng.integers(0, 2, (count, 3), dtype=np.uint8)
    return np.concatenate([centers ^ (rng.random((count, 3)) < 0.1) for _ in range(3)], axis=1).astype(
        np.uint8
    )


def test_dependent_bits_stand_together():
    order = clustered(pairwise_information(blocks()))
    assert sorted(order.tolist()) == list(range(9))
    assert [len(set(order[i : i + 3] % 3)) for i in (0, 3, 6)] == [1, 1, 1]


def test_pairwise_information_is_that_of_each_pair():
    bits = blocks(1)
    matrix = pairwise_information(bits)
    for i, j in ((0, 3), (0, 1), (8, 2)):
        found = dependence(bits[:, [i]], [Factor("other", bits[:, j].astype(np.int64), ("0", "1"))])
        assert matrix[i, j] == pytest.approx(found[0].information, abs=1e-9)
    assert np.diag(matrix) == pytest.approx(entropy(bits.mean(0)))


def test_total_correlation_is_what_each_prior_can_say_of_it():
    """Three groups of three bits that are copies of one, each with noise.

    A mixture holds all of it, counted over the eight values of a group; a tree two edges a group: 1 - H(0.18) bits
    each, since two copies differ where one of the two is wrong.
    """
    noise = 0.1
    wrong = [noise**k * (1 - noise) ** (3 - k) for k in range(4)]
    p = np.array([(wrong[k] + wrong[3 - k]) / 2 for k in (bin(value).count("1") for value in range(8))])
    whole = 3 * (3 + (p * np.log2(p)).sum())
    tree = 6 * (1 - entropy(2 * noise * (1 - noise)))
    bits = blocks(2, 12000)
    found = code_statistics(bits, np.arange(8000), np.arange(8000, 12000)).total_correlation
    assert found.keys() == {"chow-liu", "mixture"}
    for kind, exact in (("chow-liu", tree), ("mixture", whole)):
        mean, half = found[kind]
        assert abs(mean - exact) < 2 * half
    assert whole - tree > 3 * found["chow-liu"][1]


def test_the_effective_number_of_uniform_codes_is_their_number():
    bits = np.random.default_rng(0).integers(0, 2, (3000, 6), dtype=np.uint8)
    code = code_statistics(bits, np.arange(0), np.arange(0))
    assert code.distinct == 64 and code.effective == pytest.approx(64, rel=0.05)
    assert code.total_correlation == {}
    alone = np.unique(bits, axis=0)
    assert code_statistics(alone, np.arange(0), np.arange(0)).effective is None


def test_distances_within_and_between_classes_are_counted():
    label = np.arange(300) % 2
    bits = np.zeros((300, 5), np.uint8)
    bits[:, :3] = label[:, None]
    code = code_statistics(bits, np.arange(0), np.arange(0), label, ("even", "odd"))
    assert code.within.tolist() == [2 * 150 * 149 // 2, 0, 0, 0, 0, 0]
    assert code.between.tolist() == [0, 0, 0, 150 * 150, 0, 0]
    assert code.means == {"even": 0.0, "odd": 0.0}


def test_the_family_is_all_factors_together():
    bits, known, _ = planted(0)
    alone = [f for f in dependence(bits, known[1:2]) if f.bit == 7]
    together = [f for f in dependence(bits, known) if f.bit == 7 and f.factor == "a0"]
    assert alone[0].p == together[0].p and alone[0].adjusted <= together[0].adjusted
    assert per_bit.LEVEL == 0.05
