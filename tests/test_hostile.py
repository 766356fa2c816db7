"""Files that lie, wait or explode: each is refused by name, within a moment and in little memory."""

import gzip
import io
import json
import os
import pickle
import resource
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import priors
from dmzcli.codes.encode import encode
from dmzcli.codes.table import BitTable
from dmzcli.config import parse
from dmzcli.data import load, packs
from dmzcli.data.formats.cifar_pickle import read_batch
from dmzcli.data.formats.idx import read_idx
from dmzcli.data.formats.picture import PIXELS, decode
from dmzcli.data.prepare import unchanged
from dmzcli.errors import UserError
from dmzcli.evaluation.image_sets import read_images
from dmzcli.pretrained import read
from dmzcli.system import reading
from dmzcli.system.files import atomic, load_signed, load_tensors, read_json, sha256, write_json
from dmzcli.system.hdf5 import opened
from dmzcli.system.locks import hold
from dmzcli.system.parts import Parts

IDDPM = Path(__file__).parent / "iddpm"
DEEP = "[" * 100_000


@pytest.fixture
def quick():
    """Fails where the test waited, or took memory: what it tries is refused at first sight."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - begun < 20
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1.2 * 2**20
    )  # in KiB: the limit of 1 GiB


# What is no regular file --------------------------------------------------------------------------------------------

FIFOS = {
    "x.json": read_json,
    "x.safetensors": load_tensors,
    "signed.safetensors": load_signed,
    "digest": sha256,
    "bits.h5": BitTable.read,
    "pack.h5": packs.read,
    "x.npy": read_images,
    "x.npz": lambda path: load(str(path)),
    "x.zip": lambda path: load(str(path)),
    "x.parquet": lambda path: load(str(path)),
    "x.idx": lambda path: read_idx(path, 3),
    "x.pt": lambda path: read(path, 8),
}


@pytest.mark.parametrize("name", FIFOS)
def test_a_fifo_is_not_waited_for(name, quick):
    os.mkfifo(name)
    with pytest.raises(UserError, match=f"{name} is not a file, but a FIFO") as caught:
        FIFOS[name](Path(name))
    assert caught.value.hint


def test_a_fifo_in_the_place_of_a_priors_file(quick):
    os.mkfifo("prior.json")
    with pytest.raises(priors.PriorError, match=r"prior\.json is not a file"):
        priors.load(Path())


def test_a_fifo_among_pictures_and_tables(dmz, quick):
    Path("p").mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i).save(f"p/{i}.png")
    os.mkfifo("p/note.txt")
    os.mkfifo("table.h5")  # where the newest table is looked for
    assert len(load("p").images) == 12
    assert "there is no bit table" in dmz("fit-prior").mistake()[0]
    os.mkfifo("p/x.png")
    assert "p/x.png is not a file, but a FIFO" in dmz("data", "show", "p").mistake()[0]
    assert "11 pictures" not in dmz("data", "show", "p", "--skip-bad").out
    assert any("x.png" in note for note in load("p", skip_bad=True).notes)


def test_a_device_is_no_file(dmz, quick):
    assert "is not a file, but a device" in dmz("import-weights", "/dev/zero", "--size", "8").mistake()[0]
    with pytest.raises(UserError, match="/dev/zero is not a file, but a device"):
        read_json("/dev/zero")


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "--out"),
        ("evaluate", "--out"),
        ("reconstruct", "--out"),
        ("interpolate", "--out"),
        ("data", "show", "digits", "--out"),
        ("sample", "--out"),
        ("fit-prior", "--out"),
        ("likelihood", "--out"),
        ("compare-priors", "--out"),
        ("sweep-steps", "--out"),
        ("report", "--out"),
        ("inspect", "--out"),
        ("search", "--row", "1", "--out"),
    ],
    ids=" ".join,
)
def test_nothing_is_written_over_what_is_no_file(dmz, arguments):
    os.mkfifo("there")
    assert "--out 'there' is there already" in dmz(*arguments, "there").mistake()[0]


def test_a_rename_replaces_files_alone():
    os.mkfifo("there")
    Path("link").symlink_to("there")
    for name in ("there", "link"):
        with pytest.raises(UserError, match="is not a file, but a FIFO"), atomic(name):
            raise AssertionError("the work has begun")
    assert Path("there").is_fifo() and Path("link").is_symlink()
    Path("dangling").symlink_to("nowhere")
    write_json("dangling", {})
    assert read_json("dangling") == {}


def test_a_lock_that_is_none():
    """A link would have another file written over; a FIFO would be waited for."""
    Path("secret").write_text("kept")
    Path(".a.lock").symlink_to("secret")
    with pytest.raises(UserError, match=r"\.a\.lock is a link, and no lock of dmz$"), hold(Path("a")):
        raise AssertionError("the work has begun")
    assert Path("secret").read_text() == "kept"
    os.mkfifo(".b.lock")
    with pytest.raises(UserError, match="b cannot be used"), hold(Path("b")):
        raise AssertionError("the work has begun")


def test_what_a_locks_holder_says_is_not_believed():
    """Another process has the lock, and its file says what it likes."""
    program = (
        "import fcntl, os, sys; h = os.open('.a.lock', os.O_RDWR | os.O_CREAT); fcntl.flock(h, fcntl.LOCK_EX); "
        "os.write(h, b'[' * 100000); print('held', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="a is in use: another process writes it, and does not say which"):
            with hold(Path("a")):
                raise AssertionError("the work has begun")
        holder.communicate("")


# What announces more than it holds -----------------------------------------------------------------------------------


def test_a_tensors_name_decides_no_length_of_work(quick):
    state = load_file(IDDPM / "unet.safetensors")
    state["output_blocks.100000000000.0.in_layers.0.weight"] = torch.zeros(1)
    save_file(state, "far.safetensors")
    with pytest.raises(UserError, match="output blocks are missing"):
        read(Path("far.safetensors"), 16)
    state = {"output_blocks.x.conv.weight": torch.zeros(1), "time_embed.0.weight": torch.zeros(2, 2)}
    save_file(state, "odd.safetensors")
    with pytest.raises(UserError, match="no U-Net of improved-diffusion"):
        read(Path("odd.safetensors"), 16)


def test_a_tensor_that_shows_one_number_many_times(quick):
    torch.save({"time_embed.0.weight": torch.zeros(1).expand(10**6, 10**6)}, "wide.pt")
    with pytest.raises(UserError, match="announces more numbers than the file holds"):
        read(Path("wide.pt"), 8)


def test_settings_that_announce_a_giant(run, quick):
    tree = json.loads(run.settings.read_text())
    tree["model"] |= {"channels": 65536, "heads": 1}
    run.settings.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"does not fit its config\.json"):
        run.load_model(torch.device("cpu"))


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_an_archive_that_inflates(suffix, quick, monkeypatch):
    """With a limit of 1 MiB in the place of 1 GiB, and one picture's of 256 KiB."""
    monkeypatch.setattr(reading, "UNPACKED_BYTES", 1 << 20)
    zeros = bytes(4 << 20)
    if suffix == "zip":
        with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", zeros)
    else:
        with tarfile.open(f"a.{suffix}", f"w:{suffix[4:]}") as archive:
            info = tarfile.TarInfo("a.png")
            info.size = len(zeros)
            archive.addfile(info, io.BytesIO(zeros))
    with pytest.raises(
        UserError, match=rf"a\.{suffix}, unpacked, is larger than 1 MiB, the most that is read"
    ):
        load(f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["tar", "zip", ""])
def test_a_picture_beyond_the_limit_is_named(suffix, quick, monkeypatch):
    monkeypatch.setattr("dmzcli.data.formats.archives.MEMBER_BYTES", 1 << 16)
    noise = np.random.default_rng(0).bytes(1 << 17)
    Path("p").mkdir()
    Path("p/big.png").write_bytes(noise)
    if suffix == "tar":
        with tarfile.open("p.tar", "w") as archive:
            archive.add("p/big.png", "big.png")
    elif suffix == "zip":
        with zipfile.ZipFile("p.zip", "w") as archive:
            archive.write("p/big.png", "big.png")
    where = f"p.{suffix}" if suffix else "p"
    with pytest.raises(UserError, match=rf"{where}/big\.png is larger than 64 KiB, the most that is read"):
        load(where)


def test_a_picture_of_too_many_pixels(quick):
    for side in (8193, 40_000):
        stream = io.BytesIO()
        Image.new("L", (1, 1)).save(stream, "PNG")
        head = b"IHDR" + 2 * side.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
        head += zlib.crc32(head).to_bytes(4, "big")
        content = stream.getvalue()
        with pytest.raises(UserError, match=rf"^p has more than {PIXELS:,} pixels"):
            decode(content[:12] + head + content[12 + len(head) :], "p")


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 8), (2**20, 2**20)])
def test_an_array_that_announces_more_than_it_holds(shape, quick):
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    Path("a.npy").write_bytes(stream.getvalue() + bytes(64))
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.write("a.npy", "images.npy")
    for name in ("a.npy", "a.npz"):
        for reader in (read_images, lambda path: load(str(path))):
            with pytest.raises(UserError, match="announces an array of shape"):
                reader(Path(name))


def test_an_archive_of_arrays_that_inflates(quick, monkeypatch):
    monkeypatch.setattr(reading, "UNPACKED_BYTES", 1 << 20)
    np.savez_compressed("a.npz", images=np.zeros((4096, 32, 32), np.uint8))
    with pytest.raises(UserError, match=r"a\.npz, unpacked, is larger than 1 MiB"):
        read_images(Path("a.npz"))


def test_an_idx_file_that_inflates(quick, monkeypatch):
    monkeypatch.setattr("dmzcli.data.formats.idx.UNPACKED_BYTES", 1 << 20)
    head = bytes([0, 0, 8, 3]) + (2**31).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    Path("x.gz").write_bytes(gzip.compress(head + bytes(4 << 20)))
    with pytest.raises(UserError, match="unpacked, is larger than 1 MiB"):
        read_idx("x.gz", 3)


@pytest.mark.parametrize("column", ["bits", "split", "index"])
def test_a_table_with_a_column_that_is_not_there(run, column, quick):
    """HDF5 gives zeros for what was never written: terabytes of them from some kilobytes."""
    with h5py.File(run.bits, "r+") as stream:
        shape, dtype = (2**40, *stream[column].shape[1:]), stream[column].dtype
        facts = dict(stream[column].attrs)
        del stream[column]
        stream.create_dataset(column, shape, dtype, chunks=(1024, *shape[1:]))
        stream[column].attrs.update(facts)
    with pytest.raises(UserError, match=f"/{column}, unpacked, is larger than 1 GiB"):
        BitTable.read(run.bits)


def test_a_column_in_another_file_is_not_followed(run, quick):
    np.arange(1797, dtype=np.uint8).tofile("secret")
    with h5py.File("other.h5", "w") as stream:
        stream["split"] = np.zeros(1797, np.uint8)
    for link in (h5py.ExternalLink("other.h5", "/split"), h5py.SoftLink("/index")):
        with h5py.File(run.bits, "r+") as stream:
            del stream["split"]
            stream["split"] = link
        with pytest.raises(UserError, match="/split is no column in the file itself"):
            BitTable.read(run.bits)
    with h5py.File(run.bits, "r+") as stream:
        del stream["split"]
        stream.create_dataset("split", (1797,), np.uint8, external=[("secret", 0, 1797)])
    with pytest.raises(UserError, match="/split is no column in the file itself"):
        BitTable.read(run.bits)


def test_a_packs_images_in_another_file_are_not_followed(digits, quick):
    np.zeros(digits.images.nbytes, np.uint8).tofile("secret")
    packs.write(Path("p.h5"), digits)
    with h5py.File("other.h5", "w") as stream:
        stream["images"] = digits.images
    for link in (h5py.ExternalLink("other.h5", "/images"), None):
        with h5py.File("p.h5", "r+") as stream:
            del stream["images"]
            if link is None:
                size = digits.images.nbytes
                stream.create_dataset("images", digits.images.shape, np.uint8, external=[("secret", 0, size)])
            else:
                stream["images"] = link
        with pytest.raises(UserError, match=r"^p\.h5: /images is no column in the file itself"):
            packs.read("p.h5")


def test_a_signed_column_of_others_in_another_file_is_not_followed(run, quick):
    """A checksum would have it read, though nothing of ours asks for it."""
    os.mkfifo("secret")
    with h5py.File(run.bits, "r+") as stream:
        stream.create_dataset("more", (8,), np.uint8, external=[("secret", 0, 8)])
        stream["more"].attrs["sha256"] = np.bytes_(b"0" * 64)
        del stream.attrs["sha256"]
        from dmzcli.system.hdf5 import _of_attributes

        stream.attrs["sha256"] = np.bytes_(_of_attributes(stream))
    with pytest.raises(UserError, match="/more is no column in the file itself"):
        BitTable.read(run.bits)


def test_a_column_of_pointers_is_not_mapped(quick):
    """Strings of variable length lie in the file as addresses, which are none in memory."""
    with h5py.File("p.h5", "w") as stream:
        stream.attrs.update(packs.KIND.facts())
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.CONTIGUOUS)
        stream.create_dataset("images", (2, 8, 8, 1), h5py.string_dtype())[...] = "x"
        stream["split"] = np.zeros(2, np.uint8)
    with opened(Path("p.h5"), packs.KIND) as file:
        assert not isinstance(file.mapped("images"), np.memmap)


def test_weights_larger_than_any(run, quick):
    """A file with a hole has any size, and no bytes."""
    with open("x.safetensors", "wb") as stream:
        stream.truncate((64 << 30) + 1)
    with pytest.raises(UserError, match=r"x\.safetensors is larger than 64 GiB, the most that is read"):
        load_signed("x.safetensors")


def test_labels_that_grow_tenfold_with_each_level(quick):
    bomb = [0]
    for _ in range(60):
        bomb = [bomb] * 10
    with pytest.raises(UserError, match="labels are no list of whole numbers"):
        read_batch(pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": bomb}, 2), "b")


def test_a_pickle_that_numbers_its_objects_from_two_billion(quick):
    with pytest.raises(UserError, match="no CIFAR batch"):
        read_batch(b"\x80\x02}r\xff\xff\xff\x7f.", "b")


# Quiet wrong input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "command",
    [("encode",), ("likelihood", "-n", "4"), ("sample", "uniform", "-n", "2", "--steps", "2")],
    ids=lambda command: command[0],
)
def test_weights_that_are_no_numbers_are_refused(dmz, run, command, value):
    tensors, metadata = load_tensors(run.weights)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = value
    save_file(tensors, run.weights, metadata)
    error, _ = dmz(*command, "--run", run.path, "--device", "cpu").mistake()
    assert f"{name} holds numbers that are not finite" in error


def test_finite_weights_whose_outputs_are_not(run, digits, tmp_path):
    """They overflow in the last layer, where no look at the weights alone can tell."""
    model = run.load_model(torch.device("cpu"))
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.fill_(3e38)
    with pytest.raises(UserError, match=r"the encoder's outputs .* are not finite"):
        encode(model, digits, Path("b.h5"), "0" * 64)


def test_imported_weights_that_are_no_numbers():
    state = load_file(IDDPM / "unet.safetensors")
    state["out.2.bias"][0] = float("nan")
    save_file(state, "nan.safetensors")
    with pytest.raises(UserError, match=r"out\.2\.bias holds numbers that are not finite"):
        read(Path("nan.safetensors"), 16)


def test_a_prior_of_nothing(run):
    folder = run.priors / "bernoulli"
    header = json.loads((folder / "prior.json").read_text())
    from priors import storage

    _, state = storage.read(folder)
    name = next(key for key, array in state.items() if array.dtype.kind == "f")
    state[name].flat[0] = np.nan
    storage.write(
        folder, {k: header[k] for k in header.keys() - {"format", "version", "tensors", "sha256"}}, state
    )
    with pytest.raises(priors.PriorError, match=f"{name} holds numbers that are none"):
        priors.load(folder)


# JSON of any depth, and what else is damaged -------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["config.json", "import.json", "metrics.jsonl"])
@pytest.mark.parametrize(
    "text", [DEEP, '{"a":' * 100_000, '{"a": ' + "[" * 100 + "]" * 100 + "}", "9" * 10_000]
)
def test_json_of_any_depth_in_a_run(dmz, run, file, text):
    (run.path / file).write_text(text + "\n")
    assert file in dmz("info", run.path).mistake()[0]


def test_json_of_any_depth_elsewhere(dmz, run):
    (run.priors / "uniform" / "prior.json").write_text(DEEP)
    assert "nested too deeply" in dmz("info", run.priors / "uniform").mistake()[0]
    Path("s").mkdir()
    Path("s/plan.json").write_text(DEEP)
    for command in (("info", "s"), ("sample", "uniform", "-n", "1", "--steps", "2", "--out", "s")):
        assert "nested too deeply" in dmz(*command).mistake()[0]
    tensors, _ = load_tensors(run.weights)
    save_file(tensors, run.weights, {"dmz": DEEP})
    assert "no weights of dmz" in dmz("info", run.weights).mistake()[0]
    save_file(tensors, run.weights, {"dmz-sha256": DEEP})
    for reader in (load_tensors, load_signed):
        with pytest.raises(UserError, match="is altered: its metadata differ"):
            reader(run.weights)


@pytest.mark.parametrize("dmz_says", [DEEP, "[]", "3", "{}", '{"step": null}'])
def test_damaged_facts_of_an_imported_run(dmz, dmz_says):
    ended = dmz(
        "import-weights", IDDPM / "unet.safetensors", "digits", "--size", 16, "--run", "r", "--latent", "none"
    )
    assert ended.code == 0, ended.err
    tensors, _ = load_tensors("r/model.safetensors")
    save_file(tensors, "r/model.safetensors", {"dmz": dmz_says})
    Image.new("L", (16, 16)).save("x.png")
    from dmzcli.runs import Run
    from dmzcli.training.trainer import Trainer

    run = Run(Path("r"))
    trainer = object.__new__(Trainer)
    trainer.run, trainer.bare = run, run.load_model(torch.device("cpu"))
    with pytest.raises(UserError, match=r"r/model\.safetensors (does not say which step|is of step)"):
        trainer.start_from_import()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"wizardry": 2.0}, "newer version of dmz: it has wizardry"),
        ({"count": "many"}, "its count is no number"),
    ],
)
def test_samples_of_a_newer_version(dmz, run, change, says):
    command = ("sample", "uniform", "-n", "1", "--steps", "2", "--out", "s", "--device", "cpu")
    assert dmz(*command).code == 0
    plan = json.loads(Path("s/plan.json").read_text())
    Path("s/plan.json").write_text(json.dumps({**plan, **change}))
    assert says in dmz(*command).mistake()[0]


def test_a_pack_that_does_not_say_when_it_was_made(dmz, digits):
    packs.write(Path("p.h5"), digits)
    with h5py.File("p.h5", "r+") as stream:
        del stream.attrs["created"], stream.attrs["sha256"]  # as of an earlier version
    assert dmz("info", "p.h5", "--json").json["created"] == "unknown"


@pytest.mark.parametrize("damage", ["array", "facts", "names", "missing"])
def test_damaged_parts_of_a_preparation(dmz, monkeypatch, damage):
    monkeypatch.setattr(sys.modules["dmzcli.data.prepare"], "PART", 4)
    Path("p").mkdir()
    for i in range(16):
        Image.new("L", (8, 8), i).save(f"p/{i:02d}.png")
    Path("p/99.png").write_bytes(b"bad")  # stops it, so that its parts stay
    dmz("data", "prepare", "p", "--out", "p.h5").mistake()
    (facts,) = Path(".p.h5.parts").glob("000001-*.json")
    (array,) = Path(".p.h5.parts").glob("000001-*.images.npy")
    if damage == "array":
        array.write_bytes(b"\x93NUMPY\x01\x00")
    elif damage == "facts":
        facts.write_text(DEEP)
    elif damage == "names":
        facts.write_text(facts.read_text().replace('"names": [', '"names": 3, "were": ['))
    else:
        array.unlink()
    assert ".p.h5.parts" in dmz("data", "prepare", "p", "--out", "p.h5").mistake()[0]


@pytest.mark.parametrize("source", [DEEP, "3", "{}", '{"where": 3, "side": null}'])
def test_a_pack_of_the_cache_that_does_not_say_what_it_is_of(digits, source):
    packs.write(Path("p.h5"), digits, source=source if len(source) < 60_000 else source[:60_000])
    assert unchanged(Path("p.h5")) is None


@pytest.mark.parametrize("damage", ["3", '{"facts": 3}', '{"arrays": {"a": 3}}', '{"arrays": {"a": {}}}'])
def test_facts_of_a_part_that_are_none(damage):
    parts = Parts(Path("x"))
    parts.claim({})
    parts.write(0, {"a": np.zeros((2, 3))})
    (facts,) = Path(".x.parts").glob("000000-*.json")
    facts.write_text(damage)
    with pytest.raises(UserError, match=r"\.x\.parts"):
        parts.join("a", 1)


def test_labels_of_samples_that_are_none(dmz, run):
    assert dmz("sample", "uniform", "-n", "2", "--steps", "2", "--out", "s", "--device", "cpu").code == 0
    arrays = dict(np.load("s/samples.npz"))
    for labels in (np.zeros(3, np.int64), np.zeros(2), np.array(3)):
        np.savez("s/samples.npz", **{**arrays, "labels": labels})
        with pytest.raises(UserError, match="its labels are no classes of its images"):
            read_images(Path("s"))


def test_parts_that_do_not_go_together():
    parts = Parts(Path("x"))
    parts.claim({})
    parts.write(0, {"a": np.zeros((2, 3))})
    parts.write(1, {"a": np.zeros((2, 4))})
    with pytest.raises(UserError, match="is damaged"):
        parts.join("a", 2)


def test_a_path_with_a_zero_byte_is_no_setting():
    with pytest.raises(UserError, match="expected a path in UTF-8"):
        parse({"data": {"data_dir": "a\0b"}}, "test")


def test_a_limit_of_the_shell_on_files(run):
    """As ``ulimit -f`` sets it."""
    program = (
        "ulimit -f 1; exec " + f"{sys.executable} -m dmzcli encode --run {run.path} --out b.h5 --device cpu"
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "would be larger than a file may be here" in done.stderr


@pytest.mark.parametrize(
    "command", [("info",), ("train",), ("encode", "--run"), ("data", "show"), ("sample", "--out")]
)
def test_a_path_that_is_no_text_is_refused_by_name(dmz, command):
    """Settings, cards and safetensors' own paths are UTF-8."""
    error, hint = dmz(*command, os.fsdecode(b"r\xff")).mistake()
    assert "'r\\udcff' is not in UTF-8" in error and "rename" in hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": -1}, "its step is -1"),
        ({"step": 10**30}, "its step is 1000"),
        ({"step": 2, "logged": 4}, "its step is 2"),
        ("nan", "holds numbers that are not finite"),
    ],
)
def test_a_training_state_that_cannot_be(run, digits, change, says):
    from dmzcli.training.engine import accelerator
    from dmzcli.training.trainer import Trainer

    tensors, metadata = load_tensors(run.state)
    if isinstance(change, dict):
        facts = json.loads(metadata["dmz-train-state"]) | change
        metadata = {"dmz-train-state": json.dumps(facts)}
    else:
        tensors[min(name for name in tensors if name.startswith("average."))].view(-1)[0] = float(change)
    save_file(tensors, run.state, metadata)
    with pytest.raises(UserError, match=rf"state\.safetensors is no checkpoint of this model: .*{says}"):
        Trainer(run.config, digits, run, accelerator("cpu", "no")).resume()


@pytest.mark.parametrize("facts", [DEEP, "[]", '{"step": "many"}', '{"step": null}', '{"step": 1e999}'])
def test_weights_that_do_not_say_their_step(dmz, run, facts):
    tensors, _ = load_tensors(run.weights)
    save_file(tensors, run.weights, {"dmz": facts})
    with pytest.raises(UserError, match=r"does not say which step"):
        run.stopped  # noqa: B018
    dmz("sample", "--run", run.path, "-n", "1", "--steps", "2").mistake()
