"""Pictures that hold pairs: either side alone, or both with rows that belong together."""

import numpy as np
import pytest

from dmzcli.data import SPLITS, Pairs, load, load_pairs
from dmzcli.errors import UserError


def test_either_side_alone(make, tmp_path):
    make.pairs(tmp_path)
    edges, shoes = (load("edges2shoes", data_dir=tmp_path, side=side) for side in "AB")
    assert edges.images.shape == (22, 32, 32, 1) and shoes.images.shape == (22, 32, 32, 3)
    assert "/32x32x1-A/" in edges.identity and "/32x32x3-B/" in shoes.identity
    line = np.zeros((32, 32), bool)
    line[8:16, 8:16] = True  # blocks of JPEG, so that the edge is sharp
    assert (edges.images[:, line] <= 2).all() and (edges.images[:, ~line] >= 253).all()
    numbers = [int(name.split("/")[-1].split("_")[0]) for name in shoes.names]
    np.testing.assert_allclose(shoes.images[:, 9, 20, 0], 10 * np.array(numbers), atol=2)
    np.testing.assert_allclose(shoes.images[:, 9, 20, 1:], np.broadcast_to([100, 200], (22, 2)), atol=2)


def test_val_is_valid_and_test_is_held_out(make, tmp_path):
    dataset = load("edges2shoes", data_dir=make.pairs(tmp_path), side="A")
    assert [len(dataset.rows(split)) for split in SPLITS] == [18, 2, 2]


def test_pairs_have_the_same_rows(make, tmp_path):
    make.pairs(tmp_path)
    pairs = load_pairs("edges2shoes", data_dir=tmp_path, size=16, fit="resize")
    assert len(pairs) == 22 and (pairs.a.side, pairs.b.side) == ("A", "B")
    assert pairs.a.identity.split("/")[1] == "16x16x1-A-resize" and pairs.a.names == pairs.b.names
    assert load_pairs("edges2shoes", data_dir=tmp_path, cache=True).b.identity.split("/")[1] == "32x32x3-B"


def test_rows_that_do_not_belong_together(make, tmp_path):
    make.pairs(tmp_path / "a")
    make.pairs(tmp_path / "b", count=19)
    with pytest.raises(UserError, match="do not belong together"):
        Pairs(*(load("edges2shoes", data_dir=tmp_path / name, side="A") for name in "ab"))


def test_the_official_archive_and_any_folder_like_it(make, tmp_path):
    make.pairs(tmp_path / "plain")
    files = {f"edges2shoes/train/{i}_AB.jpg": make.pair(i) for i in range(1, 21)}
    files |= {f"edges2shoes/val/{i}_AB.jpg": make.pair(i) for i in (1, 2)}
    make.tar(tmp_path / "edges2shoes.tar.gz", files, "w:gz")
    plain = load("edges2shoes", data_dir=tmp_path / "plain", side="B")
    assert load("edges2shoes", data_dir=tmp_path, side="B").identity == plain.identity
    by_path = load(str(tmp_path / "plain" / "edges2shoes"), side="B")
    np.testing.assert_array_equal(by_path.images, plain.images)
    assert load(str(tmp_path / "plain" / "edges2shoes"), side="A").images.shape[3] == 3


def test_mistakes(make, tmp_path):
    make.pairs(tmp_path)
    with pytest.raises(
        UserError, match=r"edges2shoes holds pairs, and data\.side says neither A nor B"
    ) as caught:
        load("edges2shoes", data_dir=tmp_path)
    assert "--set data.side=B for the shoes" in caught.value.hint
    with pytest.raises(UserError, match="unknown side 'C'"):
        load("edges2shoes", data_dir=tmp_path, side="C")
    with pytest.raises(UserError, match=r"digits holds single images, and data\.side asks for side A"):
        load("digits", side="A")
    make.tree(tmp_path / "odd", {"a.png": make.picture(1, (7, 4))})
    with pytest.raises(UserError, match=r"a\.png is 7 pixels wide, which is no two pictures side by side"):
        load(str(tmp_path / "odd"), side="A")


@pytest.mark.parametrize("fit", ["exact", "resize", "pad"])
def test_a_pair_that_is_taken_for_one_picture_hears_of_sides(make, tmp_path, fit):
    make.tree(tmp_path / "pairs", {"a.png": make.picture(1, (16, 8))})
    make.tree(tmp_path / "photos", {"a.png": make.picture(1, (12, 8))})
    for name, told in (("pairs", True), ("photos", False)):
        with pytest.raises(UserError) as caught:
            load(str(tmp_path / name), size=8, fit=fit)
        assert ("--set data.side=A (the left) or B" in caught.value.hint) == told
