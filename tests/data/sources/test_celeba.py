"""CelebA and CelebA-HQ, in the layouts of their publishers, read back to known pixels."""

import numpy as np
import pytest

from dmzcli.data import SPLITS, load
from dmzcli.data.formats.celeba_lists import read_attributes, read_mapping, read_partition
from dmzcli.errors import UserError

D2C = {"size": 64, "fit": "d2c"}


def sizes(dataset):
    return [len(dataset.rows(split)) for split in SPLITS]


@pytest.mark.parametrize("layout", ["flat", "official", "kaggle"])
@pytest.mark.parametrize("place", ["", "celeba"])
def test_layouts(layout, place, make, tmp_path):
    make.celeba(tmp_path / place, layout)
    dataset = load("celeba", data_dir=tmp_path, **D2C)
    assert sizes(dataset) == [6, 2, 2] and dataset.labels is None and dataset.lossy
    assert dataset.identity.startswith("celeba/64x64x3-d2c/")
    assert dataset.names[0] == "000001.jpg" and dataset.fit == "d2c"
    # The crop is of one colour; JPEG of the best quality is off by two at most, at the edge of the crop by more.
    levels = 20 * np.arange(10)[:, None, None, None]
    np.testing.assert_allclose(
        dataset.images[:, 4:-4, 4:-4], np.broadcast_to(levels, (10, 56, 56, 3)), atol=2
    )
    np.testing.assert_array_equal(dataset.attributes, make.celeba_marks(10))
    assert dataset.attribute_names == ("5_o_Clock_Shadow", "Arched_Eyebrows", "Bald", "Young")


def test_all_layouts_are_one_dataset(make, tmp_path):
    found = set()
    for layout in ("flat", "official", "kaggle"):
        found.add(load("celeba", data_dir=make.celeba(tmp_path / layout, layout), **D2C).identity)
    assert len(found) == 1


def test_the_crop_is_part_of_the_identity(make, tmp_path):
    make.celeba(tmp_path)
    fits = ("d2c", "resize-center", "adm", "squash", "crop")
    found = [load("celeba", data_dir=tmp_path, size=64, fit=fit).identity for fit in fits]
    assert [name.split("/")[1] for name in found] == [f"64x64x3-{fit}" for fit in fits]
    assert len({name.split("/")[2] for name in found}) == 5
    with pytest.raises(UserError, match=r"000001\.jpg is 178 × 218 pixels .*, not 64 × 64") as caught:
        load("celeba", data_dir=tmp_path, size=64)
    assert "data.fit=d2c|resize-center|adm|squash" in caught.value.hint


def test_a_part_of_the_download(make, tmp_path):
    make.celeba(tmp_path)
    (tmp_path / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError, match=r"only a part of CelebA: list_attr_celeba\.txt missing"):
        load("celeba", data_dir=tmp_path, **D2C)


@pytest.mark.parametrize("layout", ["flat", "official"])
def test_a_missing_picture_is_named_and_may_be_skipped(layout, make, tmp_path):
    make.celeba(tmp_path, layout)
    if layout == "flat":
        (tmp_path / "img_align_celeba" / "000003.jpg").unlink()
    else:
        pictures = {f"img_align_celeba/{i:06d}.jpg": make.face(i) for i in range(1, 11) if i != 3}
        make.zip(tmp_path / "Img" / "img_align_celeba.zip", pictures)
    with pytest.raises(UserError, match=r"000003\.jpg") as caught:
        load("celeba", data_dir=tmp_path, **D2C)
    assert "--skip-bad" in caught.value.hint
    dataset = load("celeba", data_dir=tmp_path, **D2C, skip_bad=True)
    assert sizes(dataset) == [5, 2, 2] and "000003.jpg" not in dataset.names
    np.testing.assert_array_equal(dataset.attributes, np.delete(make.celeba_marks(10), 2, 0))
    assert any(note.startswith("1 bad picture left out, the first: ") for note in dataset.notes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not start with the number of its faces, but with nothing"),
        ("a.jpg 1\n", "does not start with the number of its faces, but with 'a.jpg 1'"),
        ("2\nA B\na.jpg  1 -1\n", "announces 2 faces, and holds 1"),
        ("1\nA B\na.jpg  1\n", "line 3: 1 values, but 2 attributes"),
        ("1\nA B\na.jpg  1  0\n", "line 3: '0' is neither -1 nor 1"),
        ("2\nA\na.jpg  1\na.jpg  1\n", r"line 4: a\.jpg is there twice"),
    ],
)
def test_damaged_attributes(text, sentence, tmp_path):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=rf"list\.txt.* {sentence}"):
        read_attributes(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("000001.jpg 3\n", "line 1: '000001.jpg 3' is no file name and 0, 1 or 2"),
        ("000001.jpg\n", "line 1: '000001.jpg' is no file name"),
        ("image_id,partition\na.jpg,0\na.jpg,1\n", r"line 3: a\.jpg is there twice"),
    ],
)
def test_damaged_partitions(text, sentence, tmp_path):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=rf"list\.txt.* {sentence}"):
        read_partition(tmp_path / "list.txt")


def test_lists_that_do_not_agree(make, tmp_path):
    make.celeba(tmp_path)
    with (tmp_path / "list_eval_partition.txt").open("a") as stream:
        stream.write("000011.jpg 0\n")
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt has no line for 000011\.jpg"):
        load("celeba", data_dir=tmp_path, **D2C)


# CelebA-HQ and FFHQ -----------------------------------------------------------------------------------------


def test_celeba_hq_takes_celebas_splits_where_the_mapping_is(make, tmp_path):
    make.celeba_hq(tmp_path)
    dataset = load("celeba-hq", data_dir=tmp_path, size=16, fit="resize")
    np.testing.assert_array_equal(
        dataset.split, np.arange(12) % 3
    )  # in the order of the numbers: 2 before 10
    np.testing.assert_array_equal(dataset.images[:, 5, 5, 0], 20 * np.arange(12))
    np.testing.assert_array_equal(dataset.attributes, make.celeba_marks(12))
    assert dataset.notes == ("splits: CelebA's own, by CelebA-HQ-to-CelebA-mapping.txt",)
    assert len(dataset) == 12  # the masks beside the faces are no faces


def test_celeba_hq_without_the_mapping_says_so(make, tmp_path):
    make.celeba_hq(tmp_path, lists=False)
    dataset = load("celeba-hq", data_dir=tmp_path)
    assert sizes(dataset) == [8, 2, 2] and dataset.attributes is None
    assert (
        "a tenth each is held out" in dataset.notes[0]
        and "there is no CelebA-HQ-to-CelebA" in dataset.notes[0]
    )


def test_faces_are_never_cropped(make, tmp_path):
    make.tree(tmp_path, {"ffhq/0.png": make.picture(1, (16, 16)), "ffhq/1.png": make.picture(1, (16, 12))})
    with pytest.raises(UserError, match=r"1\.png is 16 × 12 pixels .*, and faces of this dataset are square"):
        load("ffhq", data_dir=tmp_path, size=8, fit="crop")


def test_ffhq_in_thousands(make, tmp_path):
    files = {
        f"ffhq/images1024x1024/{i // 4:02}000/{i:05}.png": make.picture(i, (8, 8), "L") for i in range(8)
    }
    dataset = load("ffhq", data_dir=make.tree(tmp_path, files))
    np.testing.assert_array_equal(dataset.images[:, 0, 0, 0], np.arange(8))
    assert dataset.labels is None and sizes(dataset) == [6, 1, 1]


def test_damaged_mappings(make, tmp_path):
    make.celeba_hq(tmp_path)
    mapping = tmp_path / "CelebAMask-HQ" / "CelebA-HQ-to-CelebA-mapping.txt"
    with pytest.raises(UserError, match="does not start with 'idx orig_idx orig_file'"):
        mapping.write_text("0 1 000002.jpg\n")
        read_mapping(mapping)
    mapping.write_text("idx orig_idx orig_file\n0 1 000002.jpg\n")
    with pytest.raises(UserError, match=r"mapping\.txt has no CelebA picture for 1\.jpg"):
        load("celeba-hq", data_dir=tmp_path)
