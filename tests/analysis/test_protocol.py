"""The protocol: heads against other implementations, intervals, budgets, and that nothing leaks from test."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from dmzcli.analysis.probes.heads import HEADS, Head
from dmzcli.analysis.probes.heads.base import choose
from dmzcli.analysis.probes.heads.logistic import Logistic
from dmzcli.analysis.probes.metrics import rank_measures, resamples
from dmzcli.analysis.probes.protocol import Rows, measure_all
from dmzcli.analysis.probes.representations import REPRESENTATIONS, Source
from dmzcli.analysis.probes.table import represented
from dmzcli.analysis.probes.targets import SPLITS, Target, attributes_of, chosen_targets, elsewhere, labels_of
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.system.progress import Silence

LOGISTIC, ALL = ["logistic"], sorted(HEADS.entries)


def planted(rows=1200, bits=16, noise=0.1, seed=0):
    """A table whose first bits tell one of four classes and whose next tell two attributes, some of them turned."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rows)
    attributes = rng.integers(0, 2, (rows, 3)).astype(np.uint8)
    attributes[:, 2] = 1
    clean = rng.integers(0, 2, (rows, bits))
    clean[:, 0], clean[:, 1] = labels // 2, labels % 2
    clean[:, 2:4] = attributes[:, :2]
    return BitTable(
        bits=(clean ^ (rng.random(clean.shape) < noise)).astype(np.uint8),
        split=np.repeat([0, 1, 2], [rows // 2, rows // 4, rows - rows // 2 - rows // 4]).astype(np.uint8),
        index=np.arange(rows),
        family="bernoulli",
        cardinalities=np.full(bits, 2),
        dataset="planted/1x1x1/0",
        model="0" * 64,
        created="now",
        labels=labels,
        label_names=("a", "b", "c", "d"),
        attributes=attributes,
        attribute_names=("one", "two", "always"),
    )


def rows_of(table):
    return {split: table.rows(split) for split in SPLITS}


def features_of(table):
    return represented(Source(table), ["bits"], None, Silence())


def measured(table, heads=ALL, target="labels", **options):
    rows = rows_of(table)
    made = chosen_targets(table, rows, [target])[0]
    return measure_all(features_of(table), made, rows, heads, **options)


@pytest.mark.parametrize("head", ALL)
def test_every_head_reads_what_is_there_and_nothing_else(head):
    """Positive control, and the leak test: with permuted labels no head is better than chance on test."""
    table = planted(noise=0.0)
    assert measured(table, [head])[0].test > 0.97
    assert measured(table, [head], "attributes")[0].test > 0.97
    rng = np.random.default_rng(1)
    changed = {"labels": rng.permutation(table.labels), "attributes": rng.permutation(table.attributes)}
    permuted = dataclasses.replace(table, **changed)
    # 300 test rows: a guess is right 1/4 of the time, ± 5 √(3/16/300) = 0.125. The mean AUROC of two attributes has
    # a standard error of √(1/12 · 4/300 / 2) = 0.024, times five 0.12.
    assert measured(permuted, [head])[0].test == pytest.approx(1 / 4, abs=0.125)
    assert measured(permuted, [head], "attributes")[0].test == pytest.approx(1 / 2, abs=0.12)


@pytest.mark.parametrize("head", ALL)
@pytest.mark.parametrize("target", ["labels", "attributes"])
def test_values_of_test_rows_change_no_fit(head, target):
    table = planted()
    test = table.rows("test")
    labels, attributes = table.labels.copy(), table.attributes.copy()
    labels[test], attributes[test, :2] = (labels[test] + 1) % 4, 1 - attributes[test, :2]
    other = dataclasses.replace(table, labels=labels, attributes=attributes)
    one, two = measured(table, [head], target)[0], measured(other, [head], target)[0]
    assert (one.valid, one.settings) == (two.valid, two.settings)
    if target == "attributes":  # the same scores of turned values
        assert two.test == pytest.approx(1 - one.test, abs=1e-6)
    else:
        assert np.sum(one.details["confusion"], 0).tolist() == np.sum(two.details["confusion"], 0).tolist()


def test_logistic_regression_is_scikit_learns():
    table = planted(noise=0.2)
    rows = rows_of(table)
    x, y = table.bits.astype(np.float32), table.labels
    one = next(
        Logistic((0.1,)).candidates(x[rows["train"]], np.eye(4, dtype=np.uint8)[y[rows["train"]]], True, 0)
    )
    theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(x[rows["train"]], y[rows["train"]])
    scores = one.predict(x[rows["test"]])
    scores = np.exp(scores - scores.max(1, keepdims=True))
    # The gradient ends below 1e-3 where the Hessian is about 1: weights and so log-odds are within some 1e-3.
    assert np.allclose(
        scores / scores.sum(1, keepdims=True), theirs.predict_proba(x[rows["test"]]), atol=5e-3
    )
    assert one.converged


def test_neighbors_are_scikit_learns_where_none_are_tied():
    rng = np.random.default_rng(0)
    x, y = rng.random((400, 5), np.float32), rng.integers(0, 3, 400)
    values = np.eye(3, dtype=np.uint8)[y]
    for candidate in HEADS.get("knn")().candidates(x[:300], values[:300], True, 0):
        theirs = KNeighborsClassifier(candidate.settings["k"]).fit(x[:300], y[:300])
        assert np.allclose(candidate.predict(x[300:]), theirs.predict_proba(x[300:]), atol=1e-6)


def test_tied_neighbors_favor_no_class():
    """All rows are alike, sorted by class: a vote of 100 is one of a random hundred, not of the first class."""
    values = np.eye(2, dtype=np.uint8)[np.repeat([0, 1], 500)]
    *_, last = HEADS.get("knn")().candidates(np.zeros((1000, 8), np.float32), values, True, 0)
    # ± 5 √(1/4/100)
    assert last.predict(np.zeros((1, 8), np.float32))[0, 0] == pytest.approx(0.5, abs=0.25)


def test_rank_measures_are_scikit_learns():
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 200), rng.integers(0, 12, 200) / 12  # with ties
    auroc, average = rank_measures(scores, truth)
    assert auroc[0] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert average[0] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    counts = resamples(200, 3, 0)
    for one, two, count in zip(*rank_measures(scores, truth, counts), counts.astype(int), strict=True):
        again = np.repeat(np.arange(200), count)
        assert one == pytest.approx(roc_auc_score(truth[again], scores[again]), abs=1e-12)
        assert two == pytest.approx(average_precision_score(truth[again], scores[again]), abs=1e-12)


def test_intervals_are_those_of_a_share_and_differences_are_paired():
    table = planted(noise=0.2)
    rows, target = rows_of(table), chosen_targets(table, rows_of(table), ["labels"])[0]
    bits = features_of(table)[0]
    poor = Rows("poor", bits.train[:, 4:], bits.valid[:, 4:], bits.test[:, 4:])
    one, same, worse = measure_all(
        [bits, dataclasses.replace(bits, name="again"), poor], target, rows, LOGISTIC
    )
    error = np.sqrt(one.test * (1 - one.test) / 300)
    assert (one.high - one.low) / 2 == pytest.approx(1.96 * error, rel=0.2)
    assert one.low < one.test < one.high and one.minus_first is None
    assert same.minus_first == (0, 0, 0)  # the same rows are right: unpaired, the interval would be wide
    assert worse.minus_first[0] == pytest.approx(worse.test - one.test)
    assert worse.minus_first[1] <= worse.minus_first[0] <= worse.minus_first[2] < 0


def test_confusion_recall_and_attributes_in_detail():
    table = planted()
    labels = measured(table, LOGISTIC)[0]
    confusion = np.array(labels.details["confusion"])
    assert np.trace(confusion) / confusion.sum() == pytest.approx(labels.test)
    assert labels.details["recall"]["a"] == pytest.approx(confusion[0, 0] / confusion[0].sum())
    made = measured(table, LOGISTIC, "attributes")[0]
    assert list(made.details["auroc"]) == ["one", "two"]
    assert made.test == pytest.approx(np.mean(list(made.details["auroc"].values())))
    assert made.details["mean_average_precision"] == pytest.approx(
        np.mean(list(made.details["average_precision"].values()))
    )


def test_constant_attributes_are_named_and_left_out():
    table = planted()
    assert attributes_of(table, rows_of(table)).left_out == ("always",)
    only = dataclasses.replace(table, attributes=table.attributes[:, 2:], attribute_names=("always",))
    with pytest.raises(
        UserError, match=r"^every attribute of the bit table is constant in one of its splits$"
    ):
        attributes_of(only, rows_of(only))


def test_budgets_are_of_train_and_valid_and_smaller_ones_know_less():
    scores = measured(planted(2400, noise=0.25), LOGISTIC, budgets=(0.02, 1.0), draws=4)
    few, all_of_them = scores
    assert len(few.draws) == 4 and len(set(few.draws)) > 1 and len(all_of_them.draws) == 1
    assert few.test == pytest.approx(np.mean(few.draws)) and few.test < all_of_them.test
    with pytest.raises(
        UserError, match=r"^a budget of 0.001 of 600 training rows is 1 rows, too few"
    ) as caught:
        measured(planted(), LOGISTIC, budgets=(0.001,))
    assert "--budgets" in caught.value.hint


def test_labels_that_are_no_task_are_refused():
    table = planted()
    with pytest.raises(UserError, match=r"^the bit table has no labels and no attributes$"):
        chosen_targets(dataclasses.replace(table, labels=None, attributes=None), rows_of(table))
    with pytest.raises(UserError, match=r"^the bit table has no attributes$"):
        chosen_targets(dataclasses.replace(table, attributes=None), rows_of(table), ["attributes"])
    with pytest.raises(UserError, match=r"^unknown target 'lables'$"):
        chosen_targets(table, rows_of(table), ["lables"])
    for split, which in (("valid", "images of the split 'valid'"), ("train", "training images")):
        labels = np.where(table.split == SPLITS.index(split), 0, table.labels)
        with pytest.raises(UserError, match=rf"^all {which} have one label$"):
            labels_of(dataclasses.replace(table, labels=labels), rows_of(table))


def test_a_target_elsewhere():
    table, other = planted(), planted(seed=1)
    target, truth = elsewhere(labels_of(table, rows_of(table)), other, other.rows("test"))
    assert np.array_equal(truth.argmax(1), other.labels[other.rows("test")])
    target = attributes_of(table, rows_of(table))
    renamed = dataclasses.replace(other, attribute_names=("always", "two", "three"))
    kept, truth = elsewhere(target, renamed, other.rows("test"))
    assert kept.names == ("two",) and kept.left_out == ("always", "one") and truth.shape == (300, 1)
    assert np.array_equal(kept.values[:, 0], table.attributes[:, 1])
    with pytest.raises(UserError, match=r"^the classes of the other table are x, y, not a, b, c, d$"):
        others = dataclasses.replace(other, labels=other.labels % 2, label_names=("x", "y"))
        elsewhere(labels_of(table, rows_of(table)), others, other.rows("test"))


def test_a_head_is_one_class_and_one_line():
    class Prior(Head):
        name, summary = "prior", "the share of each class, whatever the features"

        def candidates(self, features, values, exclusive, seed):
            from dmzcli.analysis.probes.heads.base import Candidate

            yield Candidate({}, lambda x: np.tile(values.mean(0), (len(x), 1)))

    x, y = np.zeros((4, 2), np.float32), np.eye(2, dtype=np.uint8)[[0, 0, 0, 1]]
    assert choose(Prior(), (x, y), (x, y), x, True).valid == 0.75
    with pytest.raises(TypeError, match="is no subclass"):
        HEADS.add(Target)
    with pytest.raises(TypeError, match="is no subclass"):
        REPRESENTATIONS.add(Target)


def test_representations_of_images(run, digits):
    table = BitTable.read(run.bits)
    made = {
        one.name: one
        for one in represented(
            Source(table, digits, run.config), list(REPRESENTATIONS.entries), None, Silence()
        )
    }
    assert {name: one.train.shape[1] for name, one in made.items()} == {
        "bits": 8,
        "untrained bits": 8,
        "pixels": 64,
        "probabilities": 8,
        "PCA of pixels": 8,
        "k-means, as wide": 8,
        "k-means, as many bits": 32,  # two indices of four bits
    }
    for name, ones in (("k-means, as wide", 1), ("k-means, as many bits", 2)):
        assert (made[name].test.sum(1) == ones).all()
    soft = made["probabilities"].train
    clear = np.abs(soft - 0.5) > 1e-3  # they are kept as float16
    assert np.array_equal(made["bits"].train[clear], soft[clear] > 0.5)


def test_nothing_is_fitted_to_rows_beyond_train(run, digits):
    """Other test images change no component and no cluster of the training rows."""
    table = BitTable.read(run.bits)
    images = digits.images.copy()
    images[digits.rows("test")] = 255 - images[digits.rows("test")]
    other = dataclasses.replace(digits, images=images)
    for name in ("pca", "kmeans", "pq"):
        one, two = (represented(Source(table, data), [name], None, Silence())[0] for data in (digits, other))
        assert np.array_equal(one.train, two.train) and not np.array_equal(one.test, two.test)


def test_what_is_not_at_hand_is_said():
    with pytest.raises(
        UserError, match=r"^the representation 'pixels' cannot be made: the images .* not at hand$"
    ):
        represented(Source(planted()), ["pixels"], None, Silence())
    with pytest.raises(UserError, match=r"^the representation 'probs' cannot be made: the table has no prob"):
        represented(Source(planted()), ["probs"], None, Silence())
