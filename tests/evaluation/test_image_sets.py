"""Images from folders, archives and arrays; what is refused, and by which words."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from dmzcli.errors import UserError
from dmzcli.evaluation.image_sets import fitted_to, read_images

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (5, 8, 8, 1), np.uint8)
COLOR = RNG.integers(0, 256, (5, 8, 8, 3), np.uint8)


def write(folder, images, suffix="png", **options):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{i:03d}.{suffix}", **options)
    return folder


@pytest.mark.parametrize("images", [GRAY, COLOR], ids=["gray", "color"])
def test_every_container_gives_the_same_images(tmp_path, images):
    write(tmp_path / "folder", images)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "a.npz", images=images, other=np.zeros(3))
    np.savez(tmp_path / "b.npz", images)
    np.savez(tmp_path / "c.npz", images.transpose(0, 3, 1, 2))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = images
        file["labels"] = np.zeros(5)
    for name in ("folder", "a.npy", "a.npz", "b.npz", "c.npz", "a.h5"):
        found = read_images(tmp_path / name)
        np.testing.assert_array_equal(found.images, images)
        assert not found.lossy and found.encoding == ("png" if name == "folder" else "array")


def test_jpegs_are_known_as_lossy(tmp_path):
    found = read_images(write(tmp_path / "j", COLOR, "jpg"))
    assert found.lossy and found.encoding == "jpeg"


def test_samples_of_ours_bring_their_card(workshop, dmz):
    made = dmz("sample", "-n", "25", "--steps", "2", "--json").json
    from pathlib import Path

    found = read_images(Path(made["samples"]))
    assert (found.made["steps"], found.made["prior"], len(found)) == (2, made["prior"], 25)
    (Path(made["samples"]) / "samples.json").unlink()
    with pytest.raises(UserError, match="is unfinished"):
        read_images(Path(made["samples"]))


@pytest.mark.parametrize(
    ("name", "write_it", "says"),
    [
        ("none", lambda p: None, "does not exist"),
        ("x.txt", lambda p: p.write_text("x"), "is no set of images"),
        ("empty", lambda p: p.mkdir(), "holds no pictures"),
        ("f.npy", lambda p: np.save(p, GRAY / 255), "float64 values, not uint8"),
        (
            "s.npy",
            lambda p: np.save(p, np.zeros((3, 4, 5, 6), np.uint8)),
            r"\(3, 4, 5, 6\), not \(N, H, W, C\)",
        ),
        ("o.npy", lambda p: np.save(p, np.array([{}], object), allow_pickle=True), "no whole .npy"),
        ("two.npz", lambda p: np.savez(p, a=GRAY, b=GRAY), "none is named 'images'"),
        ("cut.npz", lambda p: p.write_bytes(b"PK\x03\x04 cut"), "no whole .npz"),
        ("cut.h5", lambda p: p.write_bytes(b"\x89HDF cut"), "no readable HDF5 file"),
    ],
)
def test_what_is_no_set_of_images_is_named(tmp_path, name, write_it, says):
    write_it(tmp_path / name)
    with pytest.raises(UserError, match=says):
        read_images(tmp_path / name)


def test_pictures_of_two_sizes_are_refused(tmp_path):
    folder = write(tmp_path / "f", GRAY)
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "zzz.png")
    with pytest.raises(UserError, match=r"zzz.png has 8 × 9 pixels, 000.png has 8 × 8"):
        read_images(folder)


def test_fitting_refuses_other_sizes_and_lost_color(tmp_path):
    np.save(tmp_path / "c.npy", COLOR)
    np.save(tmp_path / "g.npy", np.repeat(GRAY, 3, axis=3))
    color, gray = read_images(tmp_path / "c.npy"), read_images(tmp_path / "g.npy")
    with pytest.raises(UserError, match=r"8 × 8 pixels, the reference has 16 × 16"):
        fitted_to(color, 16, 3)
    with pytest.raises(UserError, match="the reference is gray"):
        fitted_to(color, 8, 1)
    np.testing.assert_array_equal(fitted_to(gray, 8, 1).images, GRAY)  # gray that was stored as color
    larger = fitted_to(color, 16, 3, resize=True)
    assert larger.images.shape == (5, 16, 16, 3) and larger.resized_from == 8


def test_samples_whose_card_is_of_other_images_are_refused(dmz, workshop):
    """As a reader meets them that takes the card just before more images are sampled."""
    made = dmz("sample", "bernoulli", "-n", 3, "--steps", 2, "--out", "s", "--device", "cpu", "--json")
    assert made.code == 0 and len(read_images(Path("s")).images) == 3
    card = json.loads(Path("s/samples.json").read_text())
    Path("s/samples.json").write_text(json.dumps({**card, "count": 2}))
    with pytest.raises(UserError, match=r"^s has changed while it was read: 3 images, 2 on its card$"):
        read_images(Path("s"))
