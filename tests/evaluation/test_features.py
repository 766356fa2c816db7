"""Extractors by name, their weights, and cached references."""

import os
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch

from dmzcli.data.registry import cache_folder
from dmzcli.errors import UserError
from dmzcli.evaluation import classifier_training, features
from dmzcli.system.files import load_tensors, save_tensors

CPU = torch.device("cpu")


def test_an_extractor_of_the_registry_works_by_its_name(tiny_extractor, few):
    extractor = features.create("tiny", few, CPU)
    found, logits = extractor(few.images, batch_size=7)
    assert found.shape == (160, 4) and logits.shape == (160, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], few.images[0, :4, :4].mean() / 255, rtol=1e-6)
    np.testing.assert_array_equal(found, extractor(few.images, batch_size=160)[0])
    assert extractor.metric("fid") == "fid-tiny"
    with pytest.raises(UserError, match="unknown features 'tyni'") as error:
        features.create("tyni", few, CPU)
    assert "tiny" in error.value.hint


def test_references_are_cached_by_content(tiny_extractor, few, subset_of):
    extractor = features.create("tiny", few, CPU)
    first = features.reference_of(extractor, few, "train")

    def broken():  # one that has seen nothing, and can compute nothing
        return features.Extractor("tiny", "means", None, extractor.sha256, run=None, device=CPU)

    again = features.reference_of(broken(), few, "train")  # nothing is computed
    np.testing.assert_array_equal(first.moments.covariance, again.moments.covariance)
    np.testing.assert_array_equal(first.features, again.features)
    with pytest.raises(TypeError):
        features.reference_of(broken(), few, "test")  # another split
    with pytest.raises(TypeError):
        features.reference_of(broken(), subset_of(few, np.arange(100)), "train")  # other images
    (file,) = (cache_folder().parent / "references").iterdir()
    tensors, _ = load_tensors(file)
    tensors["mean"][0] = float("nan")
    save_tensors(file, tensors)
    with pytest.raises(TypeError):  # neither is one of no numbers
        features.reference_of(broken(), few, "train")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(TypeError):  # a damaged file is no reference
        features.reference_of(broken(), few, "train")
    file.unlink()
    file.mkdir()  # nothing can be written there, and nothing need be
    unsaved = features.reference_of(features.create("tiny", few, CPU), few, "train")
    np.testing.assert_array_equal(unsaved.features, first.features)
    other = features.Extractor("tiny", "means", None, "other weights", run=None, device=CPU)
    with pytest.raises(TypeError):
        features.reference_of(other, few, "train")
    rows = np.concatenate([few.rows("train"), few.rows("valid")[:10]])
    with pytest.raises(UserError, match="'valid' of digits has 10 images"):
        features.reference_of(extractor, subset_of(few, np.sort(rows)), "valid")


@pytest.fixture
def inception_file(tmp_path, monkeypatch):
    """Random weights of the real Inception network, as torch.save writes them."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    torch.manual_seed(0)
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    monkeypatch.undo()
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    return tmp_path / "inception.pth"


def test_inception_from_a_file(inception_file, few):
    extractor = features.create("inception", few, CPU, inception_file)
    found, logits = extractor(few.images[:2])
    assert found.shape == (2, 2048) and logits.shape == (2, 1008)
    assert extractor.metric("fid") == "fid" and len(extractor.sha256) == 64


def test_weights_that_cannot_be_had_or_trusted(few, tmp_path, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as module

    def refuse(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr(module, "load_state_dict_from_url", refuse)
    with pytest.raises(UserError, match=r"inception-v3-compat cannot be downloaded.*no network") as error:
        features.create("inception", few, CPU)
    assert "--features classifier" in error.value.hint

    class Code:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Code()))
    with pytest.raises(UserError, match=r"evil.pth is no file of plain weights"):
        features.create("inception", few, CPU, tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("other.pth", "list.pth"):
        with pytest.raises(UserError, match=rf"{name} holds no weights of inception-v3-compat"):
            features.create("inception", few, CPU, tmp_path / name)
    (tmp_path / "cut.pth").write_bytes(b"\x80\x02abc")
    with pytest.raises(UserError, match=r"cut.pth is no file of plain weights"):
        features.create("inception", few, CPU, tmp_path / "cut.pth")
    with pytest.raises(UserError, match="does not exist"):
        features.create("inception", few, CPU, tmp_path / "none.pth")


def test_the_classifier_as_features(digits, monkeypatch):
    monkeypatch.setattr(classifier_training, "STEPS", 5)
    extractor = features.create("classifier", digits, CPU)
    found, logits = extractor(digits.images[:3])
    assert found.shape == (3, 64) and logits.shape == (3, 10)
    assert extractor.metric("fid") == "fid-classifier"
    assert extractor.facts["trained_on"] == digits.identity
    same = features.create("classifier", digits, CPU, classifier_training.classifier_file(digits, 0))
    assert same.sha256 == extractor.sha256
