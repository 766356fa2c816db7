"""One contract for every registered dataset.  A new one adds its miniature to ``MINIATURES``."""

import numpy as np
import pytest

from dmzcli.data import SPLITS, TEST, TRAIN, Content, Dataset, Source, load, names, register, status
from dmzcli.errors import UserError

MINIATURES = {
    "digits": lambda make, folder: folder,
    "shapes": lambda make, folder: folder,
    "fashion-mnist": lambda make, folder: make.fashion(folder),
    "cifar10": lambda make, folder: make.cifar(folder).parent,
    "celeba": lambda make, folder: make.celeba(folder),
    "celeba-hq": lambda make, folder: make.celeba_hq(folder),
    "ffhq": lambda make, folder: make.tree(
        folder, {f"ffhq/{i:05}.png": make.picture((i, 0, 0), (16, 16)) for i in range(8)}
    ).resolve(),
    "edges2shoes": lambda make, folder: make.pairs(folder),
    "edges2handbags": lambda make, folder: make.pairs(folder, "edges2handbags"),
}
OPTIONS = {
    "celeba": {"size": 64, "fit": "d2c"},
    "edges2shoes": {"side": "B"},
    "edges2handbags": {"side": "B"},
}
"""What a dataset cannot be loaded without."""

DOWNLOADS = ("cifar10", "fashion-mnist")
EVERYWHERE = ("digits", "shapes")
"""What needs no files."""


def miniature(name, make, folder, **options):
    return load(name, data_dir=MINIATURES[name](make, folder), **OPTIONS.get(name, {}), **options)


def check(dataset: Dataset, name: str) -> None:
    count = len(dataset)
    assert dataset.name == name and dataset.identity.startswith(f"{name}/")
    assert dataset.images.dtype == np.uint8 and dataset.images.ndim == 4
    assert dataset.images.shape[1] == dataset.images.shape[2] and dataset.images.shape[3] in (1, 3)
    rows = [dataset.rows(split) for split in SPLITS]
    assert all(len(r) and r.dtype == np.int64 for r in rows)
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(count))  # disjoint, and all
    if dataset.labels is not None:
        assert set(dataset.labels[rows[TEST]]) <= set(dataset.labels[rows[TRAIN]])
        assert len(dataset.label_names) > dataset.labels.max()


def test_every_registered_dataset_has_a_miniature():
    assert sorted(MINIATURES) == names()


@pytest.mark.parametrize("name", names())
def test_contract_on_a_miniature(name, make, tmp_path):
    dataset = miniature(name, make, tmp_path)
    check(dataset, name)
    again = load(name, data_dir=tmp_path, **OPTIONS.get(name, {}))
    assert again.identity == dataset.identity
    np.testing.assert_array_equal(again.split, dataset.split)


@pytest.mark.parametrize("name", names())
def test_contract_on_the_published_files(name):
    row = next(row for row in status() if row["name"] == name)
    if not row["present"]:
        pytest.skip(f"{name} is not on this machine")
    dataset = load(name, **OPTIONS.get(name, {}))
    check(dataset, name)
    assert len(dataset) == row["count"]


@pytest.mark.parametrize("name", [name for name in names() if name != "celeba"])
def test_size_fit_and_channels(name, make, tmp_path):
    plain = miniature(name, make, tmp_path)
    side = plain.images.shape[1]
    other = 4 - plain.images.shape[3]
    half = {key: value for key, value in OPTIONS.get(name, {}).items() if key == "side"}
    mark = "-B" if half else ""
    changed = load(name, data_dir=tmp_path, size=side + 4, fit="pad", channels=other, **half)
    assert changed.images.shape == (len(plain), side + 4, side + 4, other)
    assert f"/{side + 4}x{side + 4}x{other}{mark}-pad/" in changed.identity
    np.testing.assert_array_equal(changed.split, plain.split)
    with pytest.raises(UserError, match=rf"is {side} × {side} pixels .*, not 5 × 5") as caught:
        load(name, data_dir=tmp_path, size=5, **half)
    assert "--set data.size=5 --set data.fit=resize|pad|crop" in caught.value.hint


@pytest.mark.parametrize("name", names())
def test_status_says_what_is_there(name, make, tmp_path):
    empty = next(row for row in status(tmp_path) if row["name"] == name)
    assert empty["how_to_get"] and (name in EVERYWHERE or not empty["present"])
    MINIATURES[name](make, tmp_path)
    row = next(row for row in status(tmp_path) if row["name"] == name)
    assert row["present"] and row["where"] and row["problem"] is None


@pytest.mark.parametrize("name", sorted({*names()} - {*DOWNLOADS, *EVERYWHERE}))
def test_what_cannot_be_downloaded_says_so(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} cannot be downloaded"):
        load(name, data_dir=tmp_path, download=True)


@pytest.mark.parametrize("name", [name for name in names() if name not in EVERYWHERE])
def test_absent_files(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} is not in {tmp_path}") as caught:
        load(name, data_dir=tmp_path)
    assert not caught.value.hint.startswith("--")
    assert "--data-dir" in caught.value.hint and ("--download" in caught.value.hint) == (name in DOWNLOADS)
    with pytest.raises(UserError, match=r"the data folder .*/nowhere does not exist"):
        load(name, data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("name", DOWNLOADS)
def test_download_goes_through_torchvision(name, make, tmp_path, fake_torchvision):
    fake_torchvision(lambda root: MINIATURES[name](make, root))
    assert load(name, data_dir=tmp_path, download=True).name == name


@pytest.mark.parametrize("name", DOWNLOADS)
def test_download_without_network(name, tmp_path, fake_torchvision):
    def offline(root):
        raise OSError("<urlopen error Name or service not known>")

    fake_torchvision(offline)
    with pytest.raises(UserError, match=r"could not download \w+ into .*: <urlopen error") as caught:
        load(name, data_dir=tmp_path, download=True)
    assert caught.value.hint.startswith("by hand: ") and "--data-dir" in caught.value.hint


@pytest.fixture
def fake_torchvision(monkeypatch):
    """Replaces torchvision's datasets by a function of the root folder."""
    import sys
    from pathlib import Path
    from types import SimpleNamespace

    def install(fetch):
        def kind(root, download):
            assert download
            fetch(Path(root))

        fake = SimpleNamespace(datasets=SimpleNamespace(FashionMNIST=kind, CIFAR10=kind))
        monkeypatch.setitem(sys.modules, "torchvision", fake)

    return install


def test_unknown_names(tmp_path, make):
    make.tree(tmp_path, {"flowers/0.png": make.picture(1)})
    for wrong, hint in (
        ("digts", "did you mean 'digits'?"),
        ("flowrs", "did you mean 'flowers'?"),
        ("", "datasets: "),
    ):
        with pytest.raises(UserError, match=f"unknown dataset '{wrong}'") as caught:
            load(wrong, data_dir=tmp_path)
        assert hint in caught.value.hint and "the path of a folder or archive" in caught.value.hint
    with pytest.raises(UserError, match="nowhere/pictures does not exist"):
        load("nowhere/pictures")
    with pytest.raises(UserError, match=r"pictures\.zip does not exist"):
        load("pictures.zip")


def test_unknown_split_fit_size_and_channels():
    with pytest.raises(UserError, match="unknown split 'vaild'") as caught:
        load("digits").rows("vaild")
    assert caught.value.hint == "did you mean 'valid'?"
    for options, sentence in (
        ({"fit": "sqush"}, "unknown fit 'sqush'"),
        ({"size": 0}, "size 0 is not between 1 and"),
        ({"fit": "pad"}, "fit 'pad' needs a size"),
        ({"channels": 2}, "channels 2 is neither 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            load("digits", **options)


def content(**changes):
    fields = {"images": np.zeros((4, 2, 2, 1), np.uint8), "split": np.array([0, 0, 1, 2], np.uint8)}
    return Content(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": np.zeros((4, 2, 2, 1))}, "images are float64"),
        ({"images": np.zeros((4, 2, 2), np.uint8)}, "not uint8 .N, H, W, C."),
        ({"images": np.zeros((4, 2, 2, 2), np.uint8)}, "not uint8 .N, H, W, C."),
        ({"images": np.zeros((4, 0, 2, 1), np.uint8)}, "have no pixels"),
        ({"split": np.zeros(3, np.uint8)}, "split is uint8"),
        ({"split": np.array([0, 1, 2, 3], np.uint8)}, "the code 3"),
        ({"split": np.array([1, 1, 2, 2], np.uint8)}, "no image is in the split 'train'"),
        ({"labels": np.zeros(4, np.int32), "label_names": ("a",)}, "labels are int32"),
        ({"labels": np.ones(4, np.int64), "label_names": ("a",)}, "labels lie outside"),
        ({"label_names": ("a",)}, "label names without labels"),
        ({"labels": np.zeros(4, np.int64), "label_names": ("a", "a")}, "label names are doubled"),
        ({"attributes": np.zeros((4, 2), np.uint8), "attribute_names": ("a",)}, "attributes are"),
        ({"attributes": np.full((4, 1), 2, np.uint8), "attribute_names": ("a",)}, "other than 0 and 1"),
        ({"attribute_names": ("a",)}, "attribute names without attributes"),
        ({"attribute_names": ("a", "a")}, "attribute names are doubled"),
    ],
)
def test_content_is_checked(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        content(**changes)


def test_identity_depends_on_images_labels_and_split():
    labels = {"labels": np.array([0, 1, 0, 1]), "label_names": ("a", "b")}
    one = Dataset.of("x", content(**labels)).identity
    assert one.startswith("x/2x2x1/") and Dataset.of("x", content(**labels)).identity == one
    others = {
        Dataset.of("x", content()).identity,
        Dataset.of("x", content(**labels, images=np.ones((4, 2, 2, 1), np.uint8))).identity,
        Dataset.of("x", content(**labels, split=np.array([0, 1, 0, 2], np.uint8))).identity,
        Dataset.of("x", content(**(labels | {"labels": np.array([1, 1, 0, 1])}))).identity,
        Dataset.of("x", content(**labels), fit="crop").identity,
    }
    assert len(others) == 5 and one not in others


def test_registration_refuses_bad_entries():
    class Mine(Source):
        name = "mine"
        summary = "my images"
        how_to_get = "here"

        def find(self, folders):
            return None

        def read(self, where, crop, progress):
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"is not a dmzcli\.data\.Source"):
        register(Mine.name)
    with pytest.raises(TypeError, match="Open does not define read"):
        register(type("Open", (Source,), {"find": Mine.find}))
    for name in ("Mine", "my data", "", "a/b", "-a"):
        with pytest.raises(ValueError, match="is not made of small letters"):
            register(type("Bad", (Mine,), {"name": name})())
    with pytest.raises(ValueError, match="does not say how to get its files"):
        register(type("Silent", (Mine,), {"how_to_get": ""})())
    for summary in ("", "two\nlines", None):
        with pytest.raises(ValueError, match="does not say what it is in one line"):
            register(type("Nameless", (Mine,), {"summary": summary}))
    with pytest.raises(ValueError, match="'digits' is registered already"):
        register(type("Doubled", (Mine,), {"name": "digits"})())
    with pytest.raises(UserError, match="mine cannot be downloaded"):
        Mine().download(None)
