"""Imported weights: whose network they make, what a run says of them, and what is refused."""

import io
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dmzcli.config import parse
from dmzcli.errors import UserError
from dmzcli.model.unet import UNet, UNetConfig
from dmzcli.pretrained import read
from dmzcli.pretrained.run import import_weights, prepare
from dmzcli.runs import Run
from dmzcli.system.files import sha256

IDDPM = Path(__file__).parents[1] / "iddpm"


def scrambled(module, seed=0):
    """No parameter keeps its zero or one: every layer, and every option of it, changes the output."""
    torch.manual_seed(seed)
    for name, parameter in module.named_parameters():
        fan = parameter[0].numel() if parameter.dim() > 1 else 4
        torch.nn.init.normal_(parameter, mean=float("norm" in name) / 2, std=1.5 / fan**0.5)
    return module.eval()


def imported(path, *settings, into="runs/imported", **said):
    """Imports through the library; gives the run and what became of the weights."""
    foreign = read(Path(path), **said)
    config, assumed = prepare(foreign, settings=settings)
    run = Run(Path(into))
    return run, import_weights(foreign, config, assumed, run)


def output(run, x, t, bits=None):
    model = run.load_model(torch.device("cpu"))
    with torch.no_grad():
        return model.unet(x, t, None if bits is None else model.bits_context(bits))


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


# The OpenAI layout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("latent", ["bernoulli", "none"])
def test_published_vectors_through_the_command(dmz, suffix, latent):
    """The first output is the published one to float32's rounding: 30 layers of 6e-8, relative to the largest."""
    shutil.copy(IDDPM / "unet.safetensors", "ema.safetensors")
    torch.save(load_file("ema.safetensors"), "ema.pt")
    both = ("--set", "model.conditioning=both")  # what is new starts at zero, wherever the bits go in
    ended = dmz(
        "import-weights", f"ema{suffix}", "--size", 16, "--heads", 4, "--latent", latent, *both, "--json"
    )
    assert ended.code == 0, ended.err
    facts = ended.json
    assert facts["run"] == "runs/ema"
    with np.load(IDDPM / "vectors.npz") as stream:
        x, t, y = (torch.from_numpy(stream[name]) for name in ("x", "t", "y"))
    run = Run(Path("runs/ema"))
    bits = None if latent == "none" else torch.randint(0, 2, (len(x), 64))
    assert relative(output(run, x, t, bits), y) < 1e-5
    state = load_file(IDDPM / "unet.safetensors")
    assert facts["loaded"] == len(state) and facts["parameters"] == sum(v.numel() for v in state.values())
    assert facts["left_over"] == [] and bool(facts["new"]) == (latent != "none")
    assert facts["sha256"] == sha256(Path(f"ema{suffix}"))
    assert {"diffusion.schedule", "diffusion.timesteps"} == set(facts["assumed"])
    written = json.loads((run.path / "import.json").read_text())
    assert written == {name: facts[name] for name in written} and written["source"] == f"ema{suffix}"
    made = load_file(run.weights)
    assert set(made) == {f"unet.{name}" for name in state} | set(written["new"])


ARCHITECTURES = {
    "one level": dict(multipliers=(2,), blocks=1, attention=()),
    "no attention": dict(multipliers=(1, 2), blocks=2, attention=()),
    "three levels": dict(multipliers=(1, 2, 3), blocks=1, attention=(2, 4)),
    "additive": dict(multipliers=(1, 1, 2), blocks=3, attention=(4,), scale_shift=False),
    "guided": dict(
        multipliers=(1, 2, 2), blocks=2, attention=(2,), head_channels=4, residual_resampling=True
    ),
    "guided, attention everywhere": dict(
        multipliers=(1, 2), blocks=1, attention=(1, 2), head_channels=8, residual_resampling=True
    ),
}


@pytest.mark.parametrize("order", ["by-head", "by-role"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_read_from_its_weights(name, order):
    options = ARCHITECTURES[name]
    unet = scrambled(UNet(UNetConfig(3, 6, 8, heads=2, **options)))
    state = unet.state_dict()
    if order == "by-role":  # all heads' q, then all k, then all v
        for key in [key for key in state if ".qkv." in key]:
            width = len(state[key]) // 3
            heads = width // options.get("head_channels", width // 2)
            state[key] = state[key].unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
    torch.save({f"module.{key}": value for key, value in state.items()}, "model.pt")
    said = {"head_channels": options["head_channels"]} if "head_channels" in options else {"heads": 2}
    run, outcome = imported("model.pt", "model.latent=none", size=16, order=order, **said)
    model = run.config.model
    assert (model.channels, model.multipliers, model.blocks) == (8, options["multipliers"], options["blocks"])
    assert model.attention == tuple(16 // factor for factor in options["attention"])
    assert run.config.diffusion.variance == "learned-range"
    assert "model.heads" not in outcome.assumed and outcome.new == ()
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0, 999])
    with torch.no_grad():
        assert torch.equal(output(run, x, t), unet(x, t))


def openai(**changes):
    """A small state dict for 8×8 grey images."""
    return scrambled(
        UNet(UNetConfig(1, 1, 8, **{"multipliers": (1, 2), "blocks": 1, "attention": (2,), **changes}))
    ).state_dict()


def test_what_the_weights_do_not_say_is_assumed_aloud(dmz):
    torch.save(openai(), "model.pt")
    ended = dmz("import-weights", "model.pt", "--size", 8, "--set", "diffusion.schedule=cosine", "--run", "a")
    assert ended.code == 0, ended.err
    assert Run(Path("a")).config.diffusion.schedule == "cosine"
    said = {line.split()[1] for line in ended.err.splitlines() if line.startswith("assumed: ")}
    assert said == {"model.heads", "diffusion.timesteps", "diffusion.variance"}
    assert "encoder.linear.weight" in ended.err and "left over in the file: nothing" in ended.err


def test_left_over_tensors_are_listed():
    torch.save({**openai(), "ema_decay": torch.tensor(0.99)}, "model.pt")
    _, outcome = imported("model.pt", size=8)
    assert outcome.left_over == ("ema_decay",)


# What is refused -------------------------------------------------------------------------------------------


def write(content):
    Path("model.pt").write_bytes(content)


def saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


class Code:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def fractional():
    state = openai()
    state["time_embed.0.weight"] = torch.zeros(32, 3)
    return state


FILES = {
    "text": (b"hello\n", "not a whole file of weights"),
    "empty": (b"", "not a whole file of weights"),
    "code": (pickle.dumps(Code(), protocol=2), "running the code in a file is refused"),
    "code in torch's format": (saved({"a": Code()}), "running the code in a file is refused"),
    "a whole module": (saved(torch.nn.Linear(2, 2)), "running the code in a file is refused"),
    "a list": (saved([torch.ones(2)]), "holds a list, not a state dict"),
    "a training checkpoint": (saved({"model": openai(), "step": 3}), "besides tensors it holds model, step"),
    "no tensors": (saved({}), "it holds nothing"),
    "another model": (
        saved({"Conv2d_1a_3x3.conv.weight": torch.ones(32, 3, 3, 3)}),
        "holds no U-Net of improved-diffusion: time_embed.0.weight is missing",
    ),
    "class-conditional": (saved({**openai(), "label_emb.weight": torch.ones(10, 32)}), "class-conditional"),
    "super-resolution": (
        saved(scrambled(UNet(UNetConfig(6, 3, 8, (1, 2), 1, ()))).state_dict()),
        "turns 6 channels into 3",
    ),
    "fractional multipliers": (saved(fractional()), "no multiple of the time embedding's 3"),
    "a missing tensor": (
        saved({k: v for k, v in openai().items() if k != "middle_block.1.qkv.bias"}),
        "middle_block.1.qkv.bias is missing, where (48,) was expected",
    ),
    "a tensor too many": (
        saved({**openai(), "input_blocks.1.1.norm.weight": torch.ones(8)}),
        "input_blocks.1.1.norm.weight is (8,), where nothing was expected",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_foreign_files_are_refused_by_what_they_are(dmz, name):
    content, error = FILES[name]
    write(content)
    told, _ = dmz("import-weights", "model.pt", "--size", 8).mistake()
    assert error in told and "model.pt" in told
    assert os.listdir() == ["model.pt"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_weights_are_refused(suffix):
    whole = Path(f"whole{suffix}")
    torch.save(openai(), whole) if suffix == ".pt" else save_file(openai(), whole)
    content = whole.read_bytes()
    for keep in np.linspace(0, len(content) - 1, 12).astype(int):
        Path(f"model{suffix}").write_bytes(content[:keep])
        with pytest.raises(UserError, match=r"^model\.\w+ is not a whole"):
            read(Path(f"model{suffix}"), size=8)


OPTIONS = [
    ((), "do not say the size of their images"),
    (("--size", 8, "--heads", 2, "--head-channels", 4), "--heads 2 and --head-channels 4 were both given"),
    (("--size", 8, "--heads", 3), "model.heads 3 does not divide the 8 channels"),
    (("--size", 8, "--heads", 3, "--attention-order", "by-role"), "3 heads do not divide the 16 channels"),
    (("--size", 9), "data.size 9 cannot be halved"),
    (("--size", 8, "--attention-order", "by-hed"), "unknown --attention-order 'by-hed'"),
    (("--size", 8, "--set", "model.channels=16"), "model.channels is 8 in model.pt, not 16"),
    (("--size", 8, "--set", "model.heads=2"), "model.heads is 4 in model.pt, not 2"),
    (("--size", 8, "--set", "data.size=16"), "data.size is 8 in model.pt, not 16"),
    (
        ("--size", 8, "--set", "model.multipliers=1,3"),
        "model.multipliers is [1, 2] in model.pt, not ['1', '3']",
    ),
    (("--size", 8, "--set", "model.chanels=16"), "unknown setting 'model.chanels'"),
    (("--size", 8, "--latent", "bernouli"), "model.latent = 'bernouli'"),
    (("--size", 8, "--run", "model.pt"), "model.pt"),
]


@pytest.mark.parametrize(("arguments", "error"), OPTIONS, ids=lambda v: " ".join(map(str, v))[:40])
def test_wrong_options(dmz, arguments, error):
    write(saved(openai()))
    told, _ = dmz("import-weights", "model.pt", *arguments).mistake()
    assert error in told
    assert os.listdir() == ["model.pt"]


def test_a_run_in_the_way_is_kept(dmz, run):
    write(saved(openai()))
    before = run.weights.read_bytes()
    told, hint = dmz("import-weights", "model.pt", "--size", 8, "--run", run.path).mistake()
    assert "runs/tiny holds config.json already" in told and "--run" in hint
    assert run.weights.read_bytes() == before
    save_file(openai(), "model.safetensors")  # the source itself, without a run around it
    told, _ = dmz("import-weights", "model.safetensors", "--size", 8, "--run", ".").mistake()
    assert "holds model.safetensors already" in told


def test_a_killed_import_is_repeated(dmz):
    write(saved(openai()))
    assert dmz("import-weights", "model.pt", "--size", 8).code == 0
    whole = Path("runs/model/model.safetensors").read_bytes()
    Path("runs/model/config.json").unlink()
    assert dmz("import-weights", "model.pt", "--size", 8).code == 0
    assert Path("runs/model/model.safetensors").read_bytes() == whole


# Going on ------------------------------------------------------------------------------------------------------


FAST = ("--set", "training.batch_size=16", "--set", "training.precision=no", "--device", "cpu")


QUICK = ("--set", "diffusion.timesteps=10")


@pytest.fixture
def start(dmz):
    """An imported run in ``runs/start``; options add to the import."""

    def make(*options):
        torch.save(openai(), "model.pt")
        ended = dmz(
            "import-weights", "model.pt", "--size", 8, "--bits", 8, "--run", "runs/start", *QUICK, *options
        )
        assert ended.code == 0, ended.err
        return Run(Path("runs/start"))

    return make


def test_training_goes_on_with_the_runs_own_settings(dmz, start):
    run = start("--set", "training.learning_rate=0.003")
    ended = dmz("train", "digits", "--run", run.path, "--max-steps", 2, *FAST)
    assert ended.code == 0 and "starting from the imported weights" in ended.err, ended.err
    config = Run(run.path).config
    assert (config.data.dataset, config.model.bits, config.model.channels) == ("digits", 8, 8)
    assert (config.training.learning_rate, config.training.batch_size) == (0.003, 16)
    again = dmz("train", "--run", run.path, "--max-steps", 4)  # nothing is repeated
    assert again.code == 0 and "resuming runs/start at step 2" in again.err, again.err
    assert "starting" not in again.err
    for command in ("encode", "info"):
        assert dmz(command, *(("--run",) if command == "encode" else ()), run.path).code == 0


def test_step_0_is_the_imported_weights(start, digits):
    from dmzcli.training.engine import accelerator
    from dmzcli.training.trainer import Trainer

    run = start()
    trainer = Trainer(run.config, digits, run, accelerator("cpu", "no"))
    assert not trainer.resume() and trainer.start_from_import()
    wanted = load_file(run.weights)
    for model in (trainer.bare, trainer.average.model):
        assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_a_stopped_training_of_an_import_ends_like_one_that_was_not(dmz, start):
    run = start("digits")
    shutil.copytree(run.path, "runs/twin")
    assert dmz("train", "--run", run.path, "--max-steps", 4, *FAST).code == 0
    for steps in (2, 4):
        assert dmz("train", "--run", "runs/twin", "--max-steps", steps, *FAST).code == 0
    assert Path("runs/twin/model.safetensors").read_bytes() == run.weights.read_bytes()


REFUSED = [
    ((), "was imported without a dataset"),
    (("digits", "--preset", "digits"), "--preset digits cannot replace them"),
    (("digits", "--bits", 4), "holds another experiment: model.bits is 8 there, 4 here"),
    (("digits", "--seed", 4), "holds another experiment: training.seed is 0 there, 4 here"),
    (("digits", "--set", "diffusion.schedule=cosine"), "diffusion.schedule is 'linear' there, 'cosine' here"),
]


@pytest.mark.parametrize(("arguments", "error"), REFUSED, ids=lambda v: " ".join(map(str, v))[:40])
def test_what_training_may_not_change(dmz, start, arguments, error):
    run = start()
    before = run.weights.read_bytes()
    told, _ = dmz("train", *arguments, "--run", run.path, "--max-steps", 1, *FAST).mistake()
    assert error in told and run.weights.read_bytes() == before


def test_a_lost_checkpoint_is_no_new_start(dmz, start):
    run = start("digits")
    assert dmz("train", "--run", run.path, "--max-steps", 2, *FAST).code == 0
    shutil.rmtree(run.state.parent)
    told, _ = dmz("train", "--run", run.path, "--max-steps", 2).mistake()
    assert "model.safetensors is of step 2, but" in told and "state.safetensors is missing" in told


def test_encoding_without_a_dataset_names_the_way(dmz, start):
    told, hint = dmz("encode", "--run", start().path).mistake()
    assert "imported without a dataset" in told and "dmz train DATASET" in hint


def test_a_plain_model_is_sampled_at_once(dmz, start):
    run = start("--latent", "none")
    ended = dmz("sample", "--run", run.path, "-n", 2, "--steps", 3, "--json")
    assert ended.code == 0, ended.err
    assert sorted(p.name for p in Path(ended.json["samples"], "images").iterdir()) == [
        "000000.png",
        "000001.png",
    ]


# Settings that are younger than the first runs ------------------------------------------------------------------


def test_younger_settings_leave_earlier_runs_as_they_were(dmz, run):
    """Digests name folders: those below are of the version without the younger settings."""
    assert parse({}, "the test").resolved(8, 1).digest() == "aad6698c"
    assert parse({"model": {"bits": 3}}, "the test").resolved(8, 1).digest() == "b377b79e"
    changed = parse({"model": {"norm_groups": 8}}, "the test").resolved(8, 1)
    assert changed.experiment()["model"]["norm_groups"] == 8
    file = run.path / "config.json"
    tree = json.loads(file.read_text())
    for name in (
        "head_channels",
        "time_embedding",
        "frequency_shift",
        "resampling",
        "norm_epsilon",
        "norm_groups",
    ):
        del tree["model"][name]
    file.write_text(json.dumps(tree))
    before = run.weights.read_bytes()
    settings = [
        f"--set={s}.{k}={v if isinstance(v, str) else json.dumps(v)}"
        for s in ("model", "diffusion", "training")
        for k, v in tree[s].items()
    ]
    ended = dmz("train", "digits", "--run", run.path, *settings)
    assert ended.code == 0 and "resuming" in ended.err, ended.err
    assert run.weights.read_bytes() == before  # its bit tables stay its own
    told, _ = dmz("train", "digits", "--run", run.path, *settings, "--set", "model.norm_groups=4").mistake()
    assert "model.norm_groups is 32 there, 4 here" in told
