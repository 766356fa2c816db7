"""Settings: typed, frozen, resolved in one order, and refused in words."""

import json

import pytest
from pydantic import ValidationError

from dmzcli.config import Config, assignments, fields, merge, parse, preset, presets
from dmzcli.errors import UserError


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Config().model.channels = 3


def test_a_dumped_configuration_is_parsed_back(tiny):
    for config in (Config(), tiny(), tiny(model__latent="none", data__size=16, model__attention=(8,))):
        assert parse(json.loads(json.dumps(config.model_dump(mode="json"))), "test") == config


def test_resolving_twice_changes_nothing(tiny):
    config = Config().resolved(32, 3)
    assert config.resolved(32, 3) == config
    assert (config.data.size, config.data.channels) == (32, 3)
    assert None not in (config.model.attention, config.model.cross_attention)


@pytest.mark.parametrize(
    ("size", "levels", "attention"),
    [(8, 2, (8, 4)), (32, 4, (8, 4)), (32, 3, (16, 8)), (64, 1, ()), (64, 2, (32,)), (256, 5, (32, 16))],
)
def test_attention_is_at_the_two_lowest_of_32_or_less(size, levels, attention):
    config = parse({"model": {"multipliers": [1] * levels}}, "test").resolved(size, 3)
    assert config.model.attention == config.model.cross_attention == attention


def test_cross_attention_follows_self_attention():
    config = parse({"model": {"attention": [4], "multipliers": [1, 1]}}, "test").resolved(8, 1)
    assert config.model.cross_attention == (4,)


# What makes an experiment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["steps", "log_every", "valid_every", "sample_every", "checkpoint_every"])
def test_how_long_and_how_often_is_no_other_experiment(tiny, key):
    assert tiny(**{f"training__{key}": 7}).digest() == tiny().digest()


@pytest.mark.parametrize(
    "change",
    [{"training__seed": 1}, {"model__bits": 4}, {"data__flip": True}, {"diffusion__perturbation": 0.1}],
    ids=lambda change: next(iter(change)),
)
def test_what_is_learnt_is_another_experiment(tiny, change):
    assert tiny(**change).digest() != tiny().digest()


@pytest.mark.parametrize(
    ("name", "size", "channels", "digest"),
    [("digits", 8, 1, "10b24c38"), ("cifar10", 32, 3, "0b6e4c02")],
)
def test_settings_that_came_later_leave_the_names_of_runs(name, size, channels, digest):
    """Runs are found by their digest: at its default a new setting must not change it."""
    assert parse(preset(name), name).resolved(size, channels).digest() == digest


def test_where_the_data_lies_is_no_other_experiment(tiny):
    assert tiny(data__data_dir="/elsewhere").digest() == tiny().digest()


# Presets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("digits", 8, 1),
        ("fashion-mnist", 32, 1),
        ("shapes", 16, 3),
        ("cifar10", 32, 3),
        ("celeba", 64, 3),
        ("edges2shoes", 64, 1),
        ("edges2handbags", 64, 3),
    ],
)
def test_presets_fit_their_datasets(name, size, channels):
    config = parse(preset(name), name).resolved(size, channels)
    assert config.data.dataset == name


@pytest.mark.parametrize("name", presets())
def test_every_preset_changes_known_settings_only(name):
    parse(preset(name), name)
    assert all(set(values) <= set(fields()[section].model_fields) for section, values in preset(name).items())


def test_the_papers_preset_has_the_papers_numbers():
    """CIFAR-10's column of the table in arXiv 2506.00136's own implementation."""
    config = parse(preset("cifar10"), "cifar10").resolved(32, 3)
    model, diffusion, training = config.model, config.diffusion, config.training
    assert (model.channels, model.multipliers, model.blocks) == (128, (1, 2, 2, 2), 3)
    assert model.attention == model.cross_attention == (16, 8)
    assert (model.dropout, model.bits, model.tokens, model.estimator) == (0.3, 16, "single", "soft")
    assert (model.time_conditioning, model.temperature, model.encoder_channels) == ("scale-shift", 1.0, None)
    assert (diffusion.timesteps, diffusion.schedule, diffusion.variance) == (1000, "cosine", "learned-range")
    assert diffusion.perturbation == 0.15
    assert (training.learning_rate, training.batch_size, training.ema, training.weight_decay) == (
        1e-4,
        128,
        0.9999,
        0,
    )


@pytest.mark.parametrize(
    ("name", "bits", "cross"), [("celeba", 64, (32, 16, 8)), ("edges2shoes", 256, (16,))]
)
def test_the_papers_presets_for_64_pixels(name, bits, cross):
    """CelebA's and the edges' columns of the same table."""
    config = parse(preset(name), name).resolved(64, 3)
    model, diffusion = config.model, config.diffusion
    assert (model.channels, model.multipliers, model.blocks) == (192, (1, 2, 3, 4), 3)
    assert model.attention == (32, 16, 8) and model.cross_attention == cross
    assert (model.dropout, model.bits, diffusion.perturbation) == (0.1, bits, 0.1)
    assert (diffusion.schedule, diffusion.variance) == ("cosine", "learned-range")
    assert config.data.fit == ("d2c" if name == "celeba" else "resize")


def test_changing_a_preset_in_hand_leaves_the_shipped_one():
    preset("digits")["model"]["bits"] = -1
    assert preset("digits")["model"].get("bits") != -1


def test_unknown_preset():
    with pytest.raises(UserError, match=r"^unknown preset 'cifr10'$") as error:
        preset("cifr10")
    assert error.value.hint == "did you mean 'cifar10'?"


# --set --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("model.channels=32", 32),
        ("model.dropout=0.1", 0.1),
        ("model.multipliers=1,2,4", (1, 2, 4)),
        ("model.multipliers=[1, 2, 4]", (1, 2, 4)),
        ("model.multipliers=1", (1,)),
        ("model.multipliers= 1 , 2", (1, 2)),
        ("model.latent=none", "none"),
        ("model.attention=", None),
        ("model.attention=null", None),
        ("model.attention=none", None),
        ("model.attention=[]", ()),
        ("data.size=null", None),
        ("data.data_dir=none", None),
        ("data.flip=true", True),
        ("data.dataset=12", "12"),
        ("data.dataset=a=b", "a=b"),
        ("training.learning_rate=1e-3", 1e-3),
        ("training.precision=no", "no"),
    ],
)
def test_assignments(text, value):
    tree = assignments([text])
    section, name = text.split("=")[0].split(".")
    assert getattr(getattr(parse(tree, "test"), section), name) == value


def test_the_later_assignment_wins():
    assert assignments(["model.bits=3", "model.bits=5"]) == {"model": {"bits": 5}}
    assert merge({"a": {"x": 1, "y": 1}}, {"a": {"x": 2}}, {"b": {}}) == {"a": {"x": 2, "y": 1}, "b": {}}


def test_merging_leaves_its_inputs():
    first = {"a": {"x": 1}}
    merge(first, {"a": {"x": 2}})
    assert first == {"a": {"x": 1}}


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("model.channels", "--set model.channels has no '='", "write it as --set model.channels=64"),
        ("model.bitts=3", "unknown setting 'model.bitts'", "did you mean 'model.bits'?"),
        ("bits=3", "unknown setting 'bits'", "model.bits"),
        ("=3", "unknown setting ''", "known settings"),
        ("model=3", "unknown setting 'model'", "model."),
    ],
)
def test_wrong_assignments(text, error, hint):
    with pytest.raises(UserError) as caught:
        assignments([text])
    assert caught.value.message == error and hint in caught.value.hint


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"model": {"bitts": 3}}, "unknown setting 'model.bitts' in test"),
        ({"modell": {}}, "unknown setting 'modell' in test"),
        ({"model": 3}, "model = 3: "),
        ({"model": {"bits": 0}}, "model.bits = 0: expected at least 1 (in test)"),
        ({"model": {"bits": "many"}}, "model.bits = 'many': "),
        ({"model": {"multipliers": []}}, "model.multipliers = "),
        (
            {"model": {"latent": "poisson"}},
            "model.latent = 'poisson': expected one of none, bernoulli, categorical",
        ),
        ({"model": {"values": 12}}, "model.values 12 is not a power of two (in test)"),
        (
            {"model": {"latent": "ordinal", "bits": 10}},
            "model.bits 10 is not a multiple of 4, the bits of a variable",
        ),
        ({"model": {"channels": 30}}, "model.heads 4 does not divide the 30 channels of a level"),
        ({"training": {"ema": 1.0}}, "training.ema = 1.0: expected below 1 (in test)"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate = nan"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate = inf"),
        ({"training": {"weight_decay": float("inf")}}, "training.weight_decay = inf"),
        ({"diffusion": {"perturbation": float("inf")}}, "diffusion.perturbation = inf"),
        ({"model": {"channels": 9, "heads": 1}}, "model.channels = 9"),
        ({"model": {"multipliers": [1, 0]}}, "model.multipliers = "),
        ({"model": {"multipliers": [1, -1]}}, "model.multipliers = "),
        ({"model": {"encoder_channels": [8, 0]}}, "model.encoder_channels = "),
        ({"data": {"channels": 2}}, "data.channels = 2: expected 1 or 3 (in test)"),
        ({"model": {"channels": 9}}, "model.channels = 9: expected a multiple of 2 (in test)"),
        ({"diffusion": {"timesteps": 10**30}}, "expected at most 100,000 (in test)"),
        ({"training": {"steps": 10**12}}, "expected at most 1,000,000,000 (in test)"),
        ({"training": {"seed": 2**31}}, "expected below 2,147,483,648 (in test)"),
        ({"training": {"seed": 1.5}}, "training.seed = 1.5: expected a whole number (in test)"),
        ({"training": {"compile": "maybe"}}, "training.compile = 'maybe': expected true or false (in test)"),
        ({"model": {"multipliers": [1] * 11}}, "expected a list of at most 10 (in test)"),
        ({"model": {"multipliers": None}}, "model.multipliers = empty: expected a list"),
        ({"data": {"dataset": "a\udcff"}}, "data.dataset = 'a\\udcff': expected a path in UTF-8 (in test)"),
        ({"data": {"size": 9}, "model": {"multipliers": [1, 1]}}, "data.size 9 cannot be halved 1 times"),
        (
            {"data": {"size": 8}, "model": {"multipliers": [1, 1], "attention": [2]}},
            "model.attention [2] is not among the U-Net's resolutions [8, 4]",
        ),
        (
            {"data": {"size": 8}, "model": {"multipliers": [1, 1], "cross_attention": [2]}},
            "model.cross_attention [2] is not among the U-Net's resolutions [8, 4]",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_wrong_values_are_named(tree, sentence):
    with pytest.raises(UserError) as error:
        parse(tree, "test")
    assert sentence in error.value.message and error.value.hint
    assert not error.value.message.endswith(".")


@pytest.mark.parametrize("size", [9, 30])
def test_sizes_that_the_levels_do_not_divide_are_refused_when_resolved(size):
    with pytest.raises(UserError, match=rf"^data.size {size} cannot be halved 2 times"):
        Config().resolved(size, 1)
