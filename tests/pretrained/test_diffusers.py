"""Folders of diffusers' UNet2DModel: the same network as diffusers' own, or a refusal by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dmzcli.config import parse
from dmzcli.errors import UserError
from dmzcli.pretrained import read
from dmzcli.pretrained.run import import_weights, prepare
from dmzcli.runs import Run

diffusers = pytest.importorskip("diffusers")

DDPM = {  # what the configurations of google/ddpm-* have in common
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "time_embedding_type": "positional",
}
CIFAR10 = {
    **DDPM,
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
CELEBA_HQ = {
    **DDPM,
    "sample_size": 256,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}
SMALL = {  # diffusers' own defaults, on two levels
    "sample_size": 8,
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
}
GUIDED = {  # as guided-diffusion's, in diffusers' words
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 8,
    "out_channels": 6,
}
CONFIGURATIONS = {
    "ddpm-cifar10-32": {
        **CIFAR10,
        "block_out_channels": [8, 16, 16, 16],
        "norm_num_groups": 4,
        "sample_size": 16,  # of which the weights know nothing
    },
    "ddpm-ema-celebahq-256": {
        **CELEBA_HQ,
        "block_out_channels": [8, 8, 16, 16, 32, 32],
        "norm_num_groups": 4,
        "sample_size": 32,
    },
    "defaults": SMALL,
    "grey": {**SMALL, "in_channels": 1, "out_channels": 1, "attention_head_dim": 16, "freq_shift": 1},
    "learnt variance": {**SMALL, "out_channels": 6, "norm_eps": 1e-3, "downsample_padding": 0},
    "guided": {
        **SMALL,
        **GUIDED,
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    },
    "guided, attention everywhere": {
        **SMALL,
        **GUIDED,
        "down_block_types": ["AttnDownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D"],
        "dropout": 0.1,
    },
    "three residual blocks": {**SMALL, "layers_per_block": 3, "block_out_channels": [8, 24]},
}


def build(config, seed=0):
    """A model of diffusers none of whose parameters is zero or one."""
    model = diffusers.UNet2DModel(**config).eval()
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        fan = parameter[0].numel() if parameter.dim() > 1 else 4
        torch.nn.init.normal_(parameter, mean=float("norm" in name) / 2, std=1.5 / fan**0.5)
    return model


def imported(path, *settings, into="runs/imported"):
    foreign = read(Path(path))
    config, assumed = prepare(foreign, settings=settings)
    run = Run(Path(into))
    return run, import_weights(foreign, config, assumed, run)


def both(model, run):
    """The outputs of diffusers' model and of ours, at timesteps from end to end."""
    config = run.config.data
    torch.manual_seed(1)
    x, t = torch.randn(3, config.channels, config.size, config.size), torch.tensor([0, 371, 999])
    ours = run.load_model(torch.device("cpu"))
    with torch.no_grad():
        bits = ours.bits_context(torch.randint(0, 2, (3, ours.dim))) if ours.dim else None
        return model(x, t).sample, ours.unet(x, t, bits)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_diffusers(name):
    """To 1e-5 of the largest output: float32's 6e-8 over some 50 layers, and an angle of 999 that is off by as much."""
    model = build(CONFIGURATIONS[name])
    model.save_pretrained("folder")
    run, outcome = imported("folder")
    theirs, ours = both(model, run)
    assert (theirs - ours).abs().max() < 1e-5 * theirs.abs().max()
    assert outcome.parameters == sum(p.numel() for p in model.parameters())
    assert outcome.left_over == () and all("cross." in n or n.startswith("encoder.") for n in outcome.new)


@pytest.mark.parametrize(
    ("option", "other"),
    [
        ("downsampling_padding", "symmetric"),
        ("time_embedding", "cos-sin"),
        ("frequency_shift", 0.0),
        ("norm_groups", 8),
        ("norm_epsilon", 1e-3),
        ("heads", 2),
    ],
)
def test_parity_needs_every_option(option, other):
    """No setting of DDPM's is idle: with another value the output is off by far more than rounding."""
    model = build(CONFIGURATIONS["ddpm-cifar10-32"])
    model.save_pretrained("folder")
    run, _ = imported("folder")
    tree = json.loads((run.path / "config.json").read_text())
    assert tree["model"][option] != other
    tree["model"][option] = other
    run.save_config(parse(tree, "the test"))
    theirs, ours = both(model, run)
    assert (theirs - ours).abs().max() > 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(("config", "millions"), [(CIFAR10, 35.7), (CELEBA_HQ, 113.7)])
def test_the_published_models_fit_at_full_width(config, millions):
    """Names and shapes alone, on tensors without storage."""
    from dmzcli.model.autoencoder import Autoencoder
    from dmzcli.pretrained.diffusers import DEFAULTS, architecture, rename

    with torch.device("meta"):
        model = diffusers.UNet2DModel(**config)
    data, settings = architecture(Path("config.json"), {**DEFAULTS, **config})
    tensors, left_over = rename(Path("weights"), model.state_dict(), data, settings)
    tree = {"data": data, "model": {**settings, "latent": "none"}}
    with torch.device("meta"):
        ours = Autoencoder(parse(tree, "the test").resolved(data["size"], data["channels"])).unet.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in tensors.items()}
    assert left_over == () and settings["attention"] == [16]
    assert sum(v.numel() for v in tensors.values()) / 1e6 == pytest.approx(millions, abs=0.05)


# What folders look like -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A saved small model, and the model."""
    model, path = build(SMALL), tmp_path_factory.mktemp("small") / "folder"
    model.save_pretrained(path)
    return path, model


@pytest.fixture
def folder(small):
    """A copy of it that may be changed."""
    shutil.copytree(small[0], "folder")
    return Path("folder"), small[1]


def test_weights_in_torchs_format_and_by_their_former_names(folder):
    path, model = folder
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path / "diffusion_pytorch_model.safetensors")
    for new, old in names.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    torch.save(state, path / "diffusion_pytorch_model.bin")
    (path / "diffusion_pytorch_model.safetensors").unlink()
    run, outcome = imported(path)
    theirs, ours = both(model, run)
    assert (theirs - ours).abs().max() < 1e-5 * theirs.abs().max()
    assert outcome.source == "diffusion_pytorch_model.bin"


SCHEDULERS = [
    ({}, ("linear", 1000, "fixed-small")),
    ({"variance_type": "fixed_large"}, ("linear", 1000, "fixed-large")),
    (
        {
            "beta_schedule": "squaredcos_cap_v2",
            "num_train_timesteps": 500,
            "variance_type": "fixed_small_log",
        },
        ("cosine", 500, "fixed-small"),
    ),
    (
        {
            "num_train_timesteps": 2000,
            "beta_start": 5e-5,
            "beta_end": 0.01,
            "variance_type": "fixed_large_log",
        },
        ("linear", 2000, "fixed-large"),
    ),
]


@pytest.mark.parametrize(("options", "wanted"), SCHEDULERS)
def test_a_pipelines_scheduler_is_the_diffusion(options, wanted):
    from dmzcli.diffusion.process import Diffusion

    scheduler = diffusers.DDPMScheduler(**options)
    diffusers.DDPMPipeline(build(SMALL), scheduler).save_pretrained("pipeline")
    run, outcome = imported("pipeline")
    diffusion = run.config.diffusion
    assert (diffusion.schedule, diffusion.timesteps, diffusion.variance) == wanted
    assert outcome.assumed == {}
    # Theirs is a float32 product of as many factors: 6e-8 each.
    ours = torch.from_numpy(Diffusion(diffusion).alphas_bar).float()
    torch.testing.assert_close(ours, scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("epsilon", "epsilon"), ("v_prediction", "v"), ("sample", "x0")]
)
def test_what_the_network_predicts_is_the_schedulers(folder, theirs, ours):
    diffusers.DDPMScheduler(prediction_type=theirs).save_pretrained(folder[0])
    assert imported(folder[0])[0].config.diffusion.prediction == ours


def test_a_scheduler_beside_the_model(folder):
    diffusers.DDPMScheduler(variance_type="fixed_large").save_pretrained(folder[0])
    run, outcome = imported(folder[0])
    assert run.config.diffusion.variance == "fixed-large" and outcome.assumed == {}


def test_a_bare_model_is_assumed_to_be_ddpms(folder):
    run, outcome = imported(folder[0])
    assert outcome.assumed == {
        "diffusion.schedule": "linear",
        "diffusion.timesteps": 1000,
        "diffusion.variance": "fixed-small",
    }
    assert run.config.diffusion.schedule == "linear"


# What is refused -----------------------------------------------------------------------------------------------

REFUSED = [
    ({"center_input_sample": True}, "center_input_sample True is not False"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type 'fourier' is not 'positional'"),
    ({"time_embedding_dim": 32}, "time_embedding_dim 32 is not 64"),
    ({"mid_block_type": None}, "mid_block_type None"),
    ({"mid_block_scale_factor": 2}, "mid_block_scale_factor 2 is not 1"),
    ({"downsample_padding": 2}, "downsample_padding 2 is not 0 or 1"),
    ({"act_fn": "gelu"}, "act_fn 'gelu' is not 'silu' or 'swish'"),
    ({"add_attention": False}, "add_attention False is not True"),
    ({"num_class_embeds": 10}, "num_class_embeds 10 is not None"),
    ({"class_embed_type": "timestep"}, "class_embed_type 'timestep' is not None"),
    ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift 'spatial'"),
    ({"resnet_time_scale_shift": "scale_shift"}, "None groups in the middle's attention"),
    ({"block_out_channels": [16, 24]}, "block_out_channels [16, 24] are not multiples of the first"),
    ({"block_out_channels": [16]}, "1 levels, but 2 blocks down"),
    ({"block_out_channels": 16}, "has a value of another kind"),
    ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "attention at other levels on the way up"),
    ({"down_block_types": ["SkipDownBlock2D", "AttnDownBlock2D"]}, "blocks of type SkipDownBlock2D"),
    (
        {
            "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D"],
            "down_block_types": ["AttnDownBlock2D"] * 2,
            "downsample_type": "resnet",
        },
        "some levels change the resolution by a convolution",
    ),
    ({"attention_head_dim": 5}, "has 32 channels, not divided by attention_head_dim 5"),
    ({"sample_size": None}, "sample_size None is not one number"),
    ({"sample_size": [8, 16]}, "sample_size [8, 16] is not one number"),
    ({"in_channels": 4}, "in_channels 4 and out_channels 3"),
    ({"future_option": 1}, "sets future_option, which dmz does not know"),
    ({"_class_name": "UNet2DConditionModel"}, "describes a UNet2DConditionModel, not a UNet2DModel"),
    ({"layers_per_block": 2}, "down_blocks.0.resnets.1.norm1.weight is missing"),
    ({"freq_shift": 0.5}, "freq_shift 0.5 is not 0 or 1"),
]


@pytest.mark.parametrize(
    ("changes", "error"), REFUSED, ids=lambda v: next(iter(v)) if isinstance(v, dict) else ""
)
def test_what_our_network_cannot_be_is_refused_by_name(dmz, folder, changes, error):
    path, _ = folder
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    told, _ = dmz("import-weights", path).mistake()
    assert error in told
    assert not Path("runs").exists()


SCHEDULERS_REFUSED = [
    (
        {"beta_schedule": "scaled_linear"},
        "beta_schedule 'scaled_linear' is not 'linear' or 'squaredcos_cap_v2'",
    ),
    ({"beta_end": 0.03}, "beta_end 0.03 is not 0.02"),
    ({"variance_type": "learned"}, "variance_type 'learned'"),
    ({"variance_type": "learned_range"}, "variance_type learned_range does not go with"),
    ({"trained_betas": [0.1, 0.2]}, "trained_betas [0.1, 0.2] is not None"),
    ({"prediction_type": "flow"}, "prediction_type 'flow'"),
    ({"num_train_timesteps": "many"}, "num_train_timesteps 'many'"),
]


@pytest.mark.parametrize(("changes", "error"), SCHEDULERS_REFUSED)
def test_a_diffusion_that_ours_cannot_be_is_refused(dmz, folder, changes, error):
    file = folder[0] / "scheduler_config.json"
    file.write_text(json.dumps({"beta_schedule": "linear", **changes}))
    told, _ = dmz("import-weights", folder[0]).mistake()
    assert error in told


def test_a_folder_that_is_no_model(dmz, folder):
    path, _ = folder
    for options in (("--heads", 2), ("--head-channels", 8), ("--attention-order", "by-role"), ("--size", 16)):
        told, _ = dmz("import-weights", path, *options).mistake()
        assert f"{options[0]} {options[1]} was given, but the folder folder says that itself" in told
    Path("empty").mkdir()
    assert "empty holds no config.json" in dmz("import-weights", "empty").mistake()[0]
    assert "nowhere does not exist" in dmz("import-weights", "nowhere").mistake()[0]
    weights = path / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    assert "is not a whole safetensors file" in dmz("import-weights", path).mistake()[0]
    weights.unlink()
    assert "holds neither diffusion_pytorch_model.safetensors nor" in dmz("import-weights", path).mistake()[0]
    shutil.rmtree(path / "config.json", ignore_errors=True)
    (path / "config.json").write_text("[1")
    with pytest.raises(UserError, match="not valid JSON"):
        read(path)
