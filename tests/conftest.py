"""What all tests share: options, isolation from the user's files, and one tiny trained run."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

TINY = {
    "model.channels": 8,
    "model.multipliers": (1, 2),
    "model.blocks": 1,
    "model.attention": (4,),
    "model.heads": 2,
    "model.bits": 8,
    "model.encoder_channels": (8, 16),
    "diffusion.timesteps": 50,
    "training.batch_size": 16,
    "training.precision": "no",
    "training.steps": 12,
    "training.learning_rate": 2e-3,
    "training.ema": 0.9,
    "training.log_every": 2,
    "training.valid_every": 4,
    "training.sample_every": 1000,
    "training.checkpoint_every": 4,
}
"""A model of some thousand parameters, and twelve steps of it."""


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--device", default="cpu", help="where the tests compute: cpu, cuda, cuda:0, mps")


def pytest_collection_modifyitems(config, items):
    slow = pytest.mark.skip(reason="slow; run with --slow")
    gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(slow)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(gpu)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The models are too small to share: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory, monkeypatch):
    """Home, cache and working folder are the test's own, and empty."""
    home, here = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("here")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DMZ_CACHE", str(home / "cache"))
    monkeypatch.chdir(here)


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))


def config_of(**changes):
    """The tiny configuration for digits; ``model__bits=4`` changes ``model.bits``."""
    from dmzcli.config import parse

    tree = {"data": {"dataset": "digits"}}
    for key, value in {**TINY, **{key.replace("__", "."): v for key, v in changes.items()}}.items():
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = value
    size, channels = tree["data"].get("size") or 8, tree["data"].get("channels") or 1
    return parse(tree, "the test").resolved(size, channels)


@pytest.fixture(scope="session")
def tiny():
    return config_of


@pytest.fixture(scope="session")
def tiny_settings():
    """The tiny configuration as ``--set`` arguments, whatever the presets say; steps and seed are left to flags."""
    tree = config_of().model_dump(mode="json")
    del tree["data"], tree["training"]["steps"], tree["training"]["seed"]
    arguments = []
    for section, values in tree.items():
        for name, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            arguments += ["--set", f"{section}.{name}={text}"]
    return tuple(arguments)


@pytest.fixture(scope="session")
def digits():
    from dmzcli.data import load

    return load("digits")


def subset(dataset, rows):
    """Some rows of a dataset, as a dataset."""
    from dmzcli.data import Dataset

    fields = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    for name in ("images", "split", "labels", "attributes"):
        if fields[name] is not None:
            fields[name] = fields[name][rows]
    fields["identity"] = f"{dataset.name}-subset/{len(rows)}"
    return Dataset(**fields)


@pytest.fixture(scope="session")
def few(digits):
    """160 digits: the first 100 of train, 20 of valid and 40 of test."""
    parts = [digits.rows("train")[:100], digits.rows("valid")[:20], digits.rows("test")[:40]]
    return subset(digits, np.sort(np.concatenate(parts)))


@pytest.fixture(scope="session")
def subset_of():
    return subset


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Trains a tiny run on digits, encodes it and fits three priors; gives the folder that holds ``runs/``."""

    def make(name="tiny", **changes):
        from dmzcli.codes.encode import encode
        from dmzcli.codes.fit import fit
        from dmzcli.data import load
        from dmzcli.runs import Run
        from dmzcli.training import train

        folder = tmp_path_factory.mktemp("workshop")
        before = Path.cwd()
        os.chdir(folder)
        try:
            run, dataset = Run(Path("runs") / name), load("digits")
            train(config_of(**changes), dataset, run, "cpu")
            model = run.load_model(torch.device("cpu"))
            if model.dim:
                table = encode(model, dataset, run.bits, run.weights_hash).table
                for kind in ("uniform", "empirical", "bernoulli"):
                    fit(table, run.bits, kind, out=run.priors / kind)
        finally:
            os.chdir(before)
        return folder

    return make


@pytest.fixture(scope="session")
def pristine(make_run):
    """The folder of the shared run; read it, change nothing in it."""
    return make_run()


@pytest.fixture
def workshop(pristine):
    """The working folder with a copy of the shared run in ``runs/tiny``; the copy may be changed."""
    shutil.copytree(pristine / "runs", "runs")
    return Path.cwd()


@pytest.fixture
def run(workshop):
    """The copied run."""
    from dmzcli.runs import Run

    return Run(Path("runs/tiny"))


@pytest.fixture
def model(run):
    return run.load_model(torch.device("cpu"))


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one object on stdout; fails where there is anything else."""
        assert self.out.count("\n") == 1, self.out
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def mistake(self):
        """Asserts the form of a user's mistake; gives the ``error:`` and the ``hint:`` line."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        hints = [line for line in lines if line.startswith("hint: ")]
        assert (self.code, len(errors), len(hints)) == (2, 1, 1), self
        assert "Traceback" not in self.err, self.err
        assert len(errors[0]) > len("error: ") and len(hints[0]) > len("hint: ")
        return errors[0], hints[0]


@pytest.fixture
def dmz(monkeypatch):
    """Runs the command line in this process: ``dmz("train", "--json")``."""

    def call(*arguments):
        from dmzcli.__main__ import main

        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["dmz", *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Ended(code, out.getvalue(), err.getvalue())

    return call


def environment():
    """For subprocesses: one thread each, and no accelerator."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}


@pytest.fixture
def spawn():
    """Starts the command line as a process of its own."""
    started = []

    def start(*arguments, **options):
        command = [sys.executable, "-m", "dmzcli", *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process = subprocess.Popen(command, env=environment(), **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def dmz_process(spawn):
    """Runs the command line as a process of its own, to its end."""

    def call(*arguments):
        process = spawn(*arguments)
        out, err = process.communicate(timeout=300)
        return Ended(process.returncode, out, err)

    return call


CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


def changes(event, arguments, roots):
    """Whether an audit event is of a change to a file below one of some folders."""
    if event == "open":
        if not isinstance(arguments[0], str | os.PathLike) or not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return False
    elif event not in CHANGES:
        return False
    if isinstance(arguments[0], int):  # an open file
        return True
    name = os.path.abspath(os.fspath(arguments[0]))
    return any(name.startswith(root) for root in roots)


class Fork:
    """The command line in a fork of this process, which has all imported already.

    Arguments:
        arguments: Of the command.
        kill_at: Number of the change to a file, from 0, that it is killed before; ``None`` lets it end.
    """

    def __init__(self, arguments, kill_at=None):
        read, write = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(read)
            self._run(arguments, kill_at, write)
        os.close(write)
        self._answer = read

    def wait(self):
        """How it ended; ``changes`` counts its changes to files."""
        with os.fdopen(self._answer, "rb") as stream:
            said = stream.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        ended = Ended(code, "", "")
        if said:
            ended.code, ended.changes, ended.err = json.loads(said)
        return ended

    def _run(self, arguments, kill_at, answer):
        from dmzcli.__main__ import main

        code, count = 1, 0
        roots = (os.getcwd(), os.environ["DMZ_CACHE"])
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()

        def hook(event, values):
            nonlocal count
            if changes(event, values, roots):
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        os.fsync = lambda handle: None  # a kill leaves what the system has; fsync is for power cuts
        sys.addaudithook(hook)
        sys.argv = ["dmz", *map(str, arguments)]
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        try:
            os.write(answer, json.dumps([code, count, sys.stderr.getvalue()[-4000:]]).encode())
        finally:
            os._exit(0)


@pytest.fixture
def fork():
    """Starts the command line in a fork, see :class:`Fork`."""
    return Fork


@pytest.fixture
def forked(fork):
    """Runs the command line in a fork, to its end."""
    return lambda *arguments: fork(*arguments).wait()


@pytest.fixture
def python():
    """Runs a program in a Python of its own; gives its standard output."""

    def call(program):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.fixture
def tiny_extractor():
    """The name of a tiny extractor in torch-fidelity's registry, where another package would put one, too."""
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

    class Tiny(FeatureExtractorBase):
        """Means of the quarters of an image, and three logits made of them."""

        def __init__(self, name, features_list, **options):
            super().__init__(name, features_list)
            self.register_buffer("scale", torch.tensor(1 / 255))

        @staticmethod
        def get_provided_features_list():
            return ("means", "logits")

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "logits" if metric == "isc" else "means"

        def forward(self, x):
            assert x.dtype == torch.uint8 and x.shape[1] == 3
            means = torch.nn.functional.adaptive_avg_pool2d(x.double() * self.scale, 2)[:, 0].flatten(1)
            found = {"means": means, "logits": 20 * means[:, :3]}
            return tuple(found[name] for name in self.features_list)

    register_feature_extractor("tiny", Tiny)
    yield "tiny"
    del FEATURE_EXTRACTORS_REGISTRY["tiny"]


def write_pairs(folder, dataset, counts):
    """Writes pictures in pairs as pix2pix has them: where a digit is dark (A) beside the digit (B), in class folders.

    Arguments:
        folder: Gets ``train/``, ``val/`` and ``test/``.
        dataset: The digits.
        counts: How many pictures of each split.
    """
    from PIL import Image

    for split, name, count in zip(("train", "valid", "test"), ("train", "val", "test"), counts, strict=True):
        for row in dataset.rows(split)[:count]:
            digit = dataset.images[row]
            both = np.concatenate([np.where(digit > 100, 0, 255).astype(np.uint8), digit], axis=1)
            file = folder / name / str(dataset.labels[row]) / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(both[..., 0]).save(file)
    return folder


@pytest.fixture(scope="session")
def make_pairs(digits):
    """Writes a folder of pairs: ``make_pairs(folder, counts)``."""
    return lambda folder, counts=(300, 40, 40): write_pairs(Path(folder), digits, counts)


@pytest.fixture(scope="session")
def pristine_pair(tmp_path_factory, make_pairs):
    """A folder with the set ``pairs`` and a tiny trained pair of runs, encoded, with a map; change nothing in it."""
    from dmzcli.codes.encode import encode
    from dmzcli.codes.fit import fit
    from dmzcli.data import load
    from dmzcli.runs import Run
    from dmzcli.training import train

    folder, before = tmp_path_factory.mktemp("pairs"), Path.cwd()
    os.chdir(folder)
    try:
        pairs = make_pairs(folder / "pairs")
        for side in "AB":
            changes = {
                "data__dataset": str(pairs),
                "data__side": side,
                "model__bits": 8 if side == "A" else 6,
            }
            run, dataset = Run(Path(f"runs/digits-{side}")), load(str(pairs), side=side)
            train(config_of(**changes), dataset, run, "cpu")
            table = encode(run.load_model(torch.device("cpu")), dataset, run.bits, run.weights_hash).table
        fit(table, run.bits, "bernoulli", given="runs/digits-A/bits.h5", run=run.path)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def paired(pristine_pair):
    """The working folder with a copy of the pair ``digits`` and its set; the copy may be changed."""
    shutil.copytree(pristine_pair / "runs", "runs")
    return pristine_pair / "pairs"
