"""The classifier whose features compare small images."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dmzcli.errors import UserError
from dmzcli.evaluation import classifier
from dmzcli.evaluation import classifier_training as training

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [8, 9, 16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_takes_all_small_sizes(size, channels):
    features, logits = classifier.Classifier(channels, size, 5).eval()(torch.zeros(2, channels, size, size))
    assert features.shape == (2, 64) and logits.shape == (2, 5)


def test_the_seed_fixes_the_weights_and_it_learns(few, digits):
    before = torch.random.get_rng_state()
    a, b, c = (training.train(digits, seed, CPU, steps=60) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    for (name, x), y in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    assert not torch.equal(a.model.embed.weight, c.model.embed.weight)
    assert a.split == "test" and a.accuracy > 0.8  # chance is 0.1


def test_an_interrupted_training_ends_as_an_undisturbed_one(digits, tmp_path, monkeypatch):
    import signal

    from dmzcli.system.interrupts import Interrupted

    monkeypatch.setattr(training, "KEEP_EVERY", 20)
    monkeypatch.setattr(training, "CHECK_EVERY", 10)
    whole = training.train(digits, 0, CPU, steps=50)
    entropy, calls, begun = torch.nn.functional.cross_entropy, [], tmp_path / "c.part"

    def signalled(*arguments, **options):
        if not options:  # a step, and no check
            calls.append(1)
            if len(calls) == 33:
                signal.raise_signal(signal.SIGTERM)
        return entropy(*arguments, **options)

    monkeypatch.setattr(training.F, "cross_entropy", signalled)
    with pytest.raises(Interrupted, match="the classifier so far is kept"):
        training.train(digits, 0, CPU, steps=50, begun=begun)
    resumed = training.train(digits, 0, CPU, steps=50, begun=begun)
    assert len(calls) == 50
    for (name, x), y in zip(
        whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(x, y), name
    begun.write_bytes(b"junk")
    with pytest.raises(UserError, match="is no classifier in training"):
        training.train(digits, 0, CPU, steps=50, begun=begun)


def test_saving_changes_nothing_and_a_foreign_file_is_refused(digits, tmp_path):
    trained = training.train(digits, 0, CPU, steps=2)
    classifier.save(tmp_path / "c.safetensors", trained)
    again = classifier.load(tmp_path / "c.safetensors", 8, 1)
    for size, channels in ((16, 1), (8, 3)):  # other strides, or another first layer
        with pytest.raises(UserError, match=f"for {size}×{size} images of {channels} channels"):
            classifier.load(tmp_path / "c.safetensors", size, channels)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(trained.model(x)[0], again.model(x)[0])
    assert (again.dataset, again.seed, again.accuracy) == (digits.identity, 0, trained.accuracy)
    from dmzcli.system.files import save_tensors

    save_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(UserError, match="is no classifier of dmz"):
        classifier.load(tmp_path / "other.safetensors", 8, 1)


def test_it_is_trained_once(digits, monkeypatch):
    monkeypatch.setattr(training, "STEPS", 2)
    calls = []
    train = training.train
    monkeypatch.setattr(training, "train", lambda *a, **b: calls.append(1) or train(*a, **b))
    first, again = training.classifier_for(digits), training.classifier_for(digits)
    assert len(calls) == 1 and torch.equal(first.model.embed.weight, again.model.embed.weight)
    file = training.classifier_file(digits, 0)
    file.write_bytes(file.read_bytes()[:100])  # a damaged one is trained again
    assert torch.equal(first.model.embed.weight, training.classifier_for(digits).model.embed.weight)
    assert len(calls) == 2
    assert training.classifier_file(digits, 0) != training.classifier_file(digits, 1)


def test_it_needs_labels(few):
    bare = dataclasses.replace(few, labels=None, label_names=())
    with pytest.raises(UserError, match="has no labels"):
        training.train(bare, 0, CPU)
    small = dataclasses.replace(few, images=np.zeros((len(few), 4, 4, 1), np.uint8))
    with pytest.raises(UserError, match="images of 4×4"):
        training.train(small, 0, CPU)


def test_attributes_are_learned_each_by_itself(digits):
    values = np.stack([digits.labels % 2, digits.labels > 4], 1).astype(np.uint8)
    both = dataclasses.replace(digits, attributes=values, attribute_names=("odd", "large"))
    trained = training.train(both, 0, CPU, steps=100, target="attributes")
    # The shares are 1/2 each, so that a constant answer has an accuracy of about 0.5.
    assert trained.model.classify.out_features == 2 and trained.accuracy > 0.75
    with pytest.raises(UserError, match="has no attributes"):
        training.train(digits, 0, CPU, target="attributes")
    assert training.classifier_file(both, 0) != training.classifier_file(both, 0, target="attributes")


def test_training_ends_when_images_set_apart_gain_nothing_and_goes_back_to_the_best(digits, monkeypatch):
    monkeypatch.setattr(training, "CHECK_EVERY", 10)
    losses = iter([3.0, 2.0, 2.5, 2.5, 2.5, 2.4, 1.0, 1.5, 1.5, 1.5])
    weights, measured = [], training._measured

    def planted(model, images, values, rows, device):
        if len(rows) == len(digits.rows("test")):
            return measured(model, images, values, rows, device)
        weights.append(model.embed.weight.detach().clone())
        return next(losses), 0.0

    monkeypatch.setattr(training, "_measured", planted)
    trained = training.train(digits, 0, CPU)
    assert trained.steps == 100  # the second time that three checks were no better
    assert torch.equal(trained.model.embed.weight, weights[6])  # where the loss was 1


def test_features_for_a_reference_of_train_learn_from_valid(digits):
    trained = training.train(digits, 0, CPU, steps=60, split="valid")
    rows, apart = training._rows(digits, "valid")
    assert not set(rows) & set(apart) and set(rows) | set(apart) == set(digits.rows("valid"))
    assert (trained.trained_split, trained.split) == ("valid", "test") and trained.accuracy > 0.7
    assert set(training._rows(digits, "train")[0]) == set(digits.rows("train"))
    assert training.classifier_file(digits, 0) != training.classifier_file(digits, 0, "valid")


def test_files_of_the_first_recipe_are_read(digits, tmp_path):
    trained = training.train(digits, 0, CPU, steps=2)
    classifier.save(tmp_path / "c.safetensors", trained)
    from dmzcli.system.files import load_tensors, save_tensors

    tensors, metadata = load_tensors(tmp_path / "c.safetensors")
    facts = json.loads(metadata["dmz-classifier"])
    old = {name: value for name, value in facts.items() if name not in ("trained_split", "steps")}
    save_tensors(tmp_path / "c.safetensors", tensors, {"dmz-classifier": json.dumps({**old, "recipe": 1})})
    assert classifier.load(tmp_path / "c.safetensors", 8, 1).trained_split == "train"
