"""Miniatures of the published layouts, byte by byte, and small pictures."""

import gzip
import io
import json
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


CELEBA_NAMES = "5_o_Clock_Shadow Arched_Eyebrows Bald Young"


def celeba_marks(count: int) -> np.ndarray:
    """The attributes of the miniature: those of face i are the last four bits of i."""
    return (np.arange(count)[:, None] >> np.arange(4)[::-1]) & 1


def face(value: int) -> bytes:
    """An aligned picture of 178×218 as JPEG: ``value`` where the d2c crop looks, black elsewhere."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[57:185, 25:153] = value
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


def attribute_lines(names: list[str], marks: np.ndarray, gap: str = " ") -> str:
    """``list_attr_celeba.txt``: a count, the names and a blank, then marks of width two between blanks."""
    rows = (
        f"{name}{gap}" + " ".join(f"{2 * m - 1:2d}" for m in row)
        for name, row in zip(names, marks, strict=True)
    )
    return f"{len(names)}\n{CELEBA_NAMES} \n" + "".join(f"{row}\n" for row in rows)


def write_celeba(folder: Path, layout: str = "flat", count: int = 10) -> Path:
    """The official download: face i has the grey level 20 i; six of ten are train, then two valid and two test."""
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    codes = np.repeat([0, 1, 2], [count - 4, 2, 2])
    marks = celeba_marks(count)
    pictures = {name: face(20 * i) for i, name in enumerate(names)}
    attributes = attribute_lines(names, marks)
    partition = "".join(f"{name} {code}\n" for name, code in zip(names, codes, strict=True))
    if layout == "kaggle":
        head = f"image_id,{CELEBA_NAMES.replace(' ', ',')}\n"
        rows = (
            f"{name},{','.join(str(2 * m - 1) for m in row)}\n"
            for name, row in zip(names, marks, strict=True)
        )
        files = {"list_attr_celeba.csv": (head + "".join(rows)).encode()}
        lines = partition.replace(" ", ",")
        files["list_eval_partition.csv"] = f"image_id,partition\n{lines}".encode()
        files |= {f"img_align_celeba/img_align_celeba/{name}": data for name, data in pictures.items()}
        return write_tree(folder, files)
    anno, official = ("Anno/", "Eval/") if layout == "official" else ("", "")
    files = {f"{anno}list_attr_celeba.txt": attributes.encode()}
    files[f"{official}list_eval_partition.txt"] = partition.encode()
    if layout == "official":
        (folder / "Img").mkdir(parents=True)
        write_zip(
            folder / "Img" / "img_align_celeba.zip", {f"img_align_celeba/{n}": d for n, d in pictures.items()}
        )
    else:
        files |= {f"img_align_celeba/{name}": data for name, data in pictures.items()}
    return write_tree(folder, files)


def write_celeba_hq(folder: Path, lists: bool = True, count: int = 12) -> Path:
    """CelebAMask-HQ: face i has the grey level 20 i, and was made from CelebA's pictures in turns of the splits."""
    base = folder / "CelebAMask-HQ"
    grey = {
        f"CelebA-HQ-img/{i}.jpg": picture(20 * i, (32, 32), "L", "JPEG", quality=100) for i in range(count)
    }
    write_tree(base, grey | {"CelebAMask-HQ-mask-anno/0/00000_hair.png": picture(255, (16, 16), "L")})
    if lists:
        text = attribute_lines([f"{i}.jpg" for i in range(count)], celeba_marks(count), gap="  ")
        (base / "CelebAMask-HQ-attribute-anno.txt").write_text(text)
        last = (162_770, 182_637, 202_599)
        rows = "".join(f"{i:<15}{last[i % 3] - 1:<15}{last[i % 3]:06d}.jpg\n" for i in range(count))
        head = "idx            orig_idx       orig_file\n"
        (base / "CelebA-HQ-to-CelebA-mapping.txt").write_text(head + rows)
    return folder


def pair(number: int) -> bytes:
    """A JPEG of 64×32: on the left edges, black on white, on the right a colour."""
    pixels = np.full((32, 64, 3), 255, np.uint8)
    pixels[8:16, 8:16] = 0
    pixels[:, 32:] = (10 * number, 100, 200)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


def write_pairs(folder: Path, name: str = "edges2shoes", count: int = 20) -> Path:
    """pix2pix's folder: ``train/1_AB.jpg`` and on, and two pictures in ``val/``."""
    files = {f"train/{i}_AB.jpg": pair(i) for i in range(1, count + 1)}
    write_tree(folder / name, files | {f"val/{i}_AB.jpg": pair(i) for i in (1, 2)})
    return folder


def write_parquet(
    path: Path, pictures: list[bytes], labels: list[int] | None = None, names: tuple = ()
) -> Path:
    """A file of Hugging Face's image layout."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(pictures)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(images, kind)}
    features: dict = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        features["label"] = {"names": list(names), "_type": "ClassLabel"} if names else {"_type": "Value"}
    table = pa.table(columns)
    info = json.dumps({"info": {"features": features}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({b"huggingface": info}), path)
    return path


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
    celeba = staticmethod(write_celeba)
    celeba_marks = staticmethod(celeba_marks)
    celeba_hq = staticmethod(write_celeba_hq)
    face = staticmethod(face)
    pairs = staticmethod(write_pairs)
    pair = staticmethod(pair)
    parquet = staticmethod(write_parquet)


@pytest.fixture
def make():
    return Make


@pytest.fixture(autouse=True)
def no_files_of_the_user(tmp_path_factory, monkeypatch):
    """Neither the cache nor the working folder of whoever runs the tests is looked into."""
    monkeypatch.setenv("DMZ_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    assert not os.listdir()
