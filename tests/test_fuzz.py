"""Every format that is read, mutated by a seed: it is read all the same, or refused in one sentence with a hint.

Nothing else may come of it: no other exception, no wait, no flood of memory. ``DMZ_FUZZ=100`` tries a hundred times as
many mutations.
"""

import io
import json
import os
import pickle
import shutil
import tarfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import priors
from dmzcli.codes.table import BitTable
from dmzcli.config import assignments
from dmzcli.data import load, packs
from dmzcli.data.formats.celeba_lists import read_attributes, read_mapping, read_partition
from dmzcli.data.formats.cifar_pickle import read_batch
from dmzcli.data.formats.idx import read_idx
from dmzcli.data.formats.picture import decode
from dmzcli.errors import UserError
from dmzcli.evaluation.image_sets import read_images
from dmzcli.pretrained import read as read_foreign
from dmzcli.pretrained.run import prepare
from dmzcli.reports.describe import describe, lines
from dmzcli.runs import Run
from dmzcli.system.parts import Parts
from dmzcli.training.engine import accelerator
from dmzcli.training.loop import checkpoint_facts
from dmzcli.training.trainer import Trainer

TIMES = int(os.environ.get("DMZ_FUZZ", "1"))
COUNT = {"files": 40, "pictures": 60, "run": 60, "packs": 40, "samples": 30, "state": 40, "settings": 200}
"""Mutants per format, as SECURITY.md tells."""
IDDPM = Path(__file__).parent / "iddpm"
ODD = [
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**64,
    10**30,
    -1e308,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 999,
    "\0",
]
ODD += ["../../../etc/passwd", "\ud800", [], {}, [[]], [1, "a", None], {"a": {"b": []}}, [10**9] * 3]


# Mutations ------------------------------------------------------------------------------------------------------------


def bent(data, rng):
    """Some bytes changed, cut off, doubled or put in."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, max(len(data), 1)))
        if rng.random() < 0.5:  # the beginning says what the rest is
            at = min(at, int(rng.integers(0, 256)))
        kind = rng.integers(0, 5)
        if kind == 0:
            data[at : at + 1] = rng.bytes(1)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7])
        elif kind == 3:
            data[at:at] = data[at : at + int(rng.integers(1, 64))]
        else:
            data[at:at] = rng.bytes(int(rng.integers(1, 16)))
    return bytes(data)


def odd(value, rng):
    """JSON with one value, somewhere, in the place of which there is another, or nothing, or one more."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = str(rng.choice(sorted(value)))
        kind = rng.random()
        if kind < 0.1:
            return {key: part for key, part in value.items() if key != name}
        if kind < 0.15:
            return {**value, "unknown": 1}
        return {**value, name: odd(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = int(rng.integers(0, len(value)))
        return [*value[:at], odd(value[at], rng), *value[at + 1 :]]
    return ODD[int(rng.integers(0, len(ODD)))]


def bend_json(file, rng):
    text = file.read_text()
    if rng.random() < 0.7:
        file.write_text(json.dumps(odd(json.loads(text), rng)))
    else:
        file.write_bytes(bent(text.encode(), rng))


def bend_bytes(file, rng):
    file.write_bytes(bent(file.read_bytes(), rng))


def bend_tensors(file, rng):
    if rng.random() < 0.3:
        return bend_bytes(file, rng)
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    facts = header.get("__metadata__", {})
    if facts and rng.random() < 0.6:
        name = sorted(facts)[0]
        facts[name] = json.dumps(odd(json.loads(facts[name]), rng))
    else:
        header = odd(header, rng)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    return None


def bend_hdf5(file, rng):
    if rng.random() < 0.3:
        return bend_bytes(file, rng)
    with h5py.File(file, "r+") as stream:
        name = str(rng.choice(sorted(stream)))
        owner = stream[name] if rng.random() < 0.3 else stream
        kind = rng.integers(0, 5)
        if kind < 3 and owner.attrs:
            key = str(rng.choice(sorted(owner.attrs)))
            del owner.attrs[key]
            if kind:
                value = [-1, 2**62, "x", np.zeros(3), np.float64("nan"), [b"\xff"], h5py.Empty("f8")][
                    int(rng.integers(0, 7))
                ]
                owner.attrs[key] = value
        else:
            values = stream[name][()]
            facts = dict(stream[name].attrs)
            del stream[name]
            if kind == 3:
                odd_values = [
                    values[:-1],
                    values.astype("S4"),
                    values[..., None],
                    values + 200,
                    np.float32(1),
                    "x",
                ]
                stream[name] = odd_values[int(rng.integers(0, len(odd_values)))]
                stream[name].attrs.update(facts)
            elif rng.random() < 0.5:
                stream.create_group(name)
    return None


# Formats --------------------------------------------------------------------------------------------------------------


def used(dataset):
    """Reads what is read when it is used."""
    return dataset.images[:2].sum(), lines({"notes": list(dataset.notes)})


def picture_bytes(form, **options):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def write_archive(name):
    pictures = {f"{k}/{i}.png": picture_bytes("PNG") for k in "ab" for i in range(6)}
    if name.endswith("zip"):
        with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in pictures.items():
                archive.writestr(path, data)
        return
    with tarfile.open(name, f"w:{name.partition('.tar')[2][1:]}", format=tarfile.PAX_FORMAT) as archive:
        for path, data in pictures.items():
            info = tarfile.TarInfo(path)
            info.size, info.pax_headers = len(data), {"comment": "é" * 40}
            archive.addfile(info, io.BytesIO(data))


def write_parquet(name):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"bytes": picture_bytes("PNG"), "path": f"{i}.png"} for i in range(12)]
    pq.write_table(pyarrow.table({"image": rows, "label": [i % 2 for i in range(12)]}), name)


def write_idx(name):
    Path(name).write_bytes(bytes([0, 0, 8, 3, *b"\0\0\0\4", *b"\0\0\0\5", *b"\0\0\0\6"]) + bytes(120))


def write_batch(name):
    batch = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}
    Path(name).write_bytes(pickle.dumps(batch, 2))


def write_state(name):
    state = load_file(IDDPM / "unet.safetensors")
    torch.save(state, name) if name.endswith(".pt") else save_file(state, name)


FOREIGN = {
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
}
FOREIGN |= {
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
    "norm_num_groups": 4,
}


def write_foreign(name):
    folder = Path(name).parent
    folder.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(json.dumps(FOREIGN))
    save_file({"conv_in.weight": torch.zeros(8, 3, 3, 3)}, folder / "diffusion_pytorch_model.safetensors")
    schedule = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    (folder / "scheduler_config.json").write_text(json.dumps({**schedule, "prediction_type": "epsilon"}))


def write_parts(name):
    parts = Parts(Path("x"))
    parts.claim({"of": "x"})
    parts.write(0, {"a": np.arange(12).reshape(4, 3)}, {"names": ["a"]})


def read_parts(file):
    parts = Parts(Path("x"))
    parts.know({"of": "x"})
    return parts.facts(0), parts.join("a", 1)


def write_faces(name):
    lists = {
        "attributes": "2\nA B\n1.jpg 1 -1\n2.jpg -1 1\n",
        "partition": "1.jpg 0\n2.jpg 2\n",
        "mapping": "idx orig_idx orig_file\n0 1 000001.jpg\n",
    }
    Path(name).write_text(lists[Path(name).stem])


def import_state(file):
    foreign = read_foreign(
        file if file.is_file() and file.suffix != ".json" else file.parent, *SIZE[file.suffix]
    )
    return prepare(foreign)


SIZE = {".pt": (16,), ".safetensors": (16,), ".json": ()}

MADE = {
    "p.zip": (write_archive, bend_bytes, lambda file: used(load(str(file)))),
    "p.tar": (write_archive, bend_bytes, lambda file: used(load(str(file)))),
    "p.tar.gz": (write_archive, bend_bytes, lambda file: used(load(str(file)))),
    "p.tar.xz": (write_archive, bend_bytes, lambda file: used(load(str(file)))),
    "p.parquet": (write_parquet, bend_bytes, lambda file: used(load(str(file)))),
    "p.npy": (
        lambda name: np.save(name, np.zeros((12, 8, 8), np.uint8)),
        bend_bytes,
        lambda f: used(load(str(f))),
    ),
    "p.npz": (
        lambda name: np.savez_compressed(
            name, images=np.zeros((12, 8, 8), np.uint8), labels=np.arange(12) % 2
        ),
        bend_bytes,
        lambda file: (used(load(str(file))), read_images(file)),
    ),
    "images.idx": (write_idx, bend_bytes, lambda file: read_idx(file, 3)),
    "data_batch_1": (write_batch, bend_bytes, lambda file: read_batch(file.read_bytes(), file.name)),
    "attributes.txt": (write_faces, bend_bytes, read_attributes),
    "partition.txt": (write_faces, bend_bytes, read_partition),
    "mapping.txt": (write_faces, bend_bytes, read_mapping),
    "ema.pt": (write_state, bend_bytes, import_state),
    "ema.safetensors": (write_state, bend_tensors, import_state),
    "foreign/config.json": (write_foreign, bend_json, import_state),
    ".x.parts/000000-34694262.json": (write_parts, bend_json, read_parts),
    ".x.parts/000000-34694262.a.npy": (write_parts, bend_bytes, read_parts),
}
PICTURES = {
    "png": {},
    "jpeg": {},
    "gif": {},
    "bmp": {},
    "tiff": {"compression": "tiff_lzw"},
    "webp": {},
    "ppm": {},
}

RUN = {
    "config.json": (bend_json, lambda run: (run.config.digest(), lines(describe(run.path)))),
    "metrics.jsonl": (bend_bytes, lambda run: run.read_metrics()),
    "model.safetensors": (
        bend_tensors,
        lambda run: (run.load_model(torch.device("cpu")), describe(run.weights)),
    ),
    "bits.h5": (bend_hdf5, lambda run: (BitTable.read(run.bits), lines(describe(run.bits)))),
    "priors/bernoulli/prior.json": (bend_json, lambda run: lines(describe(run.priors / "bernoulli"))),
    "priors/empirical/prior.json": (bend_json, lambda run: priors.load(run.priors / "empirical").sample(2)),
}


def attempts(rng, count, make, bend, use):
    """Mutates ``count`` times, and gives how many of the mutants were read all the same."""
    read = 0
    for _ in range(count * TIMES):
        file = make()
        bend(file, rng)
        begun = time.monotonic()
        try:
            use(file)
            read += 1
        except (UserError, priors.PriorError) as error:
            assert error.message.strip() and error.hint.strip(), error
        except MemoryError:
            pytest.fail(f"{file} asked for too much memory")
        assert time.monotonic() - begun < 10
    return read


@pytest.mark.parametrize("name", MADE)
def test_files_of_others(name):
    write, bend, use = MADE[name]

    def make():
        shutil.rmtree(".x.parts", ignore_errors=True)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write(name)
        return Path(name)

    if name != "foreign/config.json":  # whose tensors are missing
        use(make())  # as it is, it is read
    attempts(np.random.default_rng(0), COUNT["files"], make, bend, use)


@pytest.mark.parametrize("form", PICTURES)
def test_pictures(form):
    whole = picture_bytes(form, **PICTURES[form])
    decode(whole, "p")

    def make():
        Path("p").write_bytes(whole)
        return Path("p")

    attempts(
        np.random.default_rng(1),
        COUNT["pictures"],
        make,
        bend_bytes,
        lambda file: decode(file.read_bytes(), "p"),
    )


@pytest.mark.parametrize("name", RUN)
def test_files_of_a_run(run, name):
    bend, use = RUN[name]
    whole = (run.path / name).read_bytes()

    def make():
        (run.path / name).write_bytes(whole)
        return run.path / name

    use(Run(run.path))
    attempts(np.random.default_rng(2), COUNT["run"], make, bend, lambda file: use(Run(run.path)))


def test_the_state_of_a_training(run, digits):
    whole, engine = run.state.read_bytes(), accelerator("cpu", "no")

    def make():
        run.state.write_bytes(whole)
        return run.state

    def use(file):
        checkpoint_facts(run)
        Trainer(run.config, digits, run, engine).resume()

    use(make())
    attempts(np.random.default_rng(5), COUNT["state"], make, bend_tensors, use)


def test_packs(digits):
    packs.write(Path("whole.h5"), digits)

    def make():
        shutil.copy("whole.h5", "p.h5")
        return Path("p.h5")

    use = lambda file: (used(load(str(file))), lines(describe(file)))  # noqa: E731
    use(make())
    attempts(np.random.default_rng(3), COUNT["packs"], make, bend_hdf5, use)


def test_samples(dmz, run):
    command = ("sample", "uniform", "-n", "2", "--steps", "2", "--out", "s", "--device", "cpu")
    assert dmz(*command).code == 0
    whole = {file.name: file.read_bytes() for file in Path("s").glob("*.*")}
    for name, bend in (("samples.json", bend_json), ("samples.npz", bend_bytes), ("plan.json", bend_json)):

        def make(name=name):
            (Path("s") / name).write_bytes(whole[name])
            return Path("s") / name

        use = lambda file: (lines(describe(Path("s"))), read_images(Path("s")))  # noqa: E731
        attempts(np.random.default_rng(4), COUNT["samples"], make, bend, use)
        make()


@pytest.mark.parametrize("seed", range(COUNT["settings"]))
def test_settings_of_any_text(seed):
    rng = np.random.default_rng(seed)
    from dmzcli.config import fields, parse

    section = str(rng.choice(sorted(fields())))
    name = str(rng.choice(sorted(fields()[section].model_fields)))
    value = ODD[seed % len(ODD)]
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        config = parse(assignments([f"{section}.{name}={text}"]), "the test")
        config.resolved(8, 1).digest()
    except UserError as error:
        assert error.hint and "Input should" not in error.message


def test_security_tells_how_many_are_tried():
    tried = len(MADE) * COUNT["files"] + len(PICTURES) * COUNT["pictures"] + len(RUN) * COUNT["run"]
    tried += COUNT["state"] + COUNT["packs"] + 3 * COUNT["samples"] + COUNT["settings"]
    told = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")
    assert f"tries {tried:,} mutants" in told
