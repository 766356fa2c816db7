"""Miniatures of the published layouts, byte by byte, and small pictures."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def idx(array: np.ndarray) -> bytes:
    """uint8 of any rank as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion(folder: Path, train: int = 120, test: int = 20, gzipped: bool = True) -> Path:
    """Fashion-MNIST's four files: image i is filled with the value i, its label is 9 - i mod 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        images = np.zeros((count, 28, 28), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None]
        labels = (9 - np.arange(count) % 10).astype(np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            if gzipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


def cifar_batches(rows: int = 20) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Six batches: planes of red, green and blue, and every label."""
    batches = {}
    for i, name in enumerate([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]):
        pixels = np.random.RandomState(i).randint(0, 256, (rows, 3072)).astype(np.uint8)
        batches[name] = pixels, np.arange(rows) % 10
    return batches


def python2_pickle(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch with the opcodes that Python 2.7 and numpy 1.x wrote: protocol 2, byte strings (T, U)."""

    def string(data: bytes) -> bytes:
        return (
            b"U" + bytes([len(data)]) + data
            if len(data) < 256
            else b"T" + struct.pack("<i", len(data)) + data
        )

    def integer(n: int) -> bytes:
        return b"J" + struct.pack("<i", n)

    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + integer(0) + b"\x85"
    array += string(b"b") + b"\x87R"
    array += b"(" + integer(1) + integer(len(pixels)) + integer(3072) + b"\x86"
    kind = b"cnumpy\ndtype\n" + string(b"u1") + integer(0) + integer(1) + b"\x87R"
    kind += b"(" + integer(3) + string(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    array += kind + b"\x89" + string(pixels.tobytes()) + b"tb"
    entries = string(b"batch_label") + string(b"training batch") + string(b"data") + array
    entries += string(b"labels") + b"](" + b"".join(integer(int(label)) for label in labels) + b"e"
    return b"\x80\x02}(" + entries + b"u."


def python3_pickle(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """The same, as Python 3 rewrites it."""
    return pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)


def binary_batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Records of one label byte and 3,072 pixel bytes."""
    return np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1).tobytes()


def write_cifar(folder: Path, form: str = "python") -> Path:
    """The official folder below ``folder``; gives its path."""
    inner = folder / ("cifar-10-batches-bin" if form == "binary" else "cifar-10-batches-py")
    inner.mkdir(parents=True, exist_ok=True)
    for name, batch in cifar_batches().items():
        if form == "binary":
            (inner / f"{name}.bin").write_bytes(binary_batch(*batch))
        else:
            (inner / name).write_bytes(python2_pickle(*batch) if form == "python" else python3_pickle(*batch))
    return inner


def picture(
    value: int | tuple, size: tuple[int, int] = (8, 8), mode: str = "RGB", kind: str = "PNG", **save
) -> bytes:
    """A picture of one colour; ``size`` is (width, height)."""
    stream = io.BytesIO()
    Image.new(mode, size, value).save(stream, kind, **save)
    return stream.getvalue()


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def classes(per_class: int = 10, prefix: str = "") -> dict[str, bytes]:
    """Two class folders, ``cat`` of red and ``dog`` of green pictures, each of its own brightness."""
    files = {}
    for i in range(per_class):
        files[f"{prefix}cat/{i:02}.png"] = picture((10 * i + 5, 0, 0))
        files[f"{prefix}dog/{i:02}.png"] = picture((0, 10 * i + 5, 0))
    return files


class Make:
    """The builders of this module as one fixture: test modules cannot import each other."""

    idx = staticmethod(idx)
    fashion = staticmethod(write_fashion)
    cifar = staticmethod(write_cifar)
    cifar_batches = staticmethod(cifar_batches)
    python3_pickle = staticmethod(python3_pickle)
    binary_batch = staticmethod(binary_batch)
    picture = staticmethod(picture)
    tree = staticmethod(write_tree)
    tar = staticmethod(write_tar)
    zip = staticmethod(write_zip)
    classes = staticmethod(classes)


@pytest.fixture
def make():
    return Make


@pytest.fixture(autouse=True)
def no_files_of_the_user(tmp_path_factory, monkeypatch):
    """Neither the cache nor the working folder of whoever runs the tests is looked into."""
    monkeypatch.setenv("DMZ_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    assert not os.listdir()
