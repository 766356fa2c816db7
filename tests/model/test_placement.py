"""Everything lies on one device, in types that it has: checked on a GPU's tensors without a GPU.

Under torch's FakeTensorMode a tensor has a device, a shape and a type, and no numbers. An operation on tensors of two
devices raises, as it would on a GPU. So does, here, a float64 tensor that is anywhere but on the CPU: ``mps`` has none.
What leaves for NumPy must be on the CPU, and is zeros; a comparison that Python asks for is true. The backward pass
does not run so, and neither do kernels: that a GPU computes the right numbers is no matter of these tests.
"""

from concurrent.futures import Future

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dmzcli.codes import encode
from dmzcli.diffusion import samplers, timesteps
from dmzcli.diffusion.bound import bound_terms, prior_term
from dmzcli.diffusion.inversion import invert
from dmzcli.diffusion.process import Diffusion
from dmzcli.evaluation import features
from dmzcli.evaluation.classifier import Classifier, Trained
from dmzcli.evaluation.likelihood import bound
from dmzcli.generation import decode
from dmzcli.generation.inversion import inversion_recipe
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.reconstruct import reconstruct
from dmzcli.model import replay
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.batch_norm import remeasure
from dmzcli.system.randomness import ImageNoise
from dmzcli.training import draws, feed
from dmzcli.training.feed import Feed
from dmzcli.training.preview import preview
from dmzcli.training.trainer import Trainer

CUDA = torch.device("cuda")
VARIANTS = {
    "single": {},
    "per-bit": {"model__tokens": "per-bit"},
    "straight-through": {"model__estimator": "straight-through"},
    "none": {"model__latent": "none"},
    "learned": {"diffusion__variance": "learned-range"},
    "v": {"diffusion__prediction": "v", "model__resampling": "residual"},
    "checkpointed": {"training__checkpoint_activations": True},
}


ANSWERS = {getattr(torch.ops.aten, name).default for name in ("_local_scalar_dense", "item", "is_nonzero")}


class Device(TorchDispatchMode):
    """What fake tensors lack of a device: it answers questions, and refuses float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in ANSWERS:
            return args[0].dtype is torch.bool  # true, or 0
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "cpu":
                assert tensor.dtype is not torch.float64, f"{func} makes float64 on {tensor.device}"
        return made


def numpy_of(tensor):
    assert tensor.device.type == "cpu", f"NumPy cannot read a tensor on {tensor.device}"
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    real = torch.Tensor.numpy
    monkeypatch.setattr(
        torch.Tensor,
        "numpy",
        lambda tensor: numpy_of(tensor) if isinstance(tensor, FakeTensor) else real(tensor),
    )
    monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: np.zeros(tuple(tensor.shape), int).tolist())
    monkeypatch.setattr(replay, "PIXELS", 0)  # where there is a GPU: what is fake has no addresses
    with FakeTensorMode(), Device():
        yield


def build(config):
    with CUDA:
        model = Autoencoder(config)
    model.backbone.checkpointing = config.training.checkpoint_activations
    return model


def inputs(model, count=2):
    x = torch.zeros(count, *model.shape, device=CUDA)
    t = torch.zeros(count, dtype=torch.long, device=CUDA)
    return x, t, torch.zeros(count, *model.latent.noise_shape, device=CUDA) if model.dim else None


def bits_of(model, count=2):
    return torch.zeros(count, model.dim, dtype=torch.uint8, device=CUDA) if model.dim else None


def test_what_is_left_on_the_cpu_raises(tiny):
    """The control: such a mistake is seen."""
    model = build(tiny())
    x, t, noise = inputs(model)
    for wrong in ((x.cpu(), x, t, noise), (x, x.cpu(), t, noise), (x, x, t, noise.cpu())):
        with pytest.raises(RuntimeError, match="device"):
            model(*wrong)


def test_float64_on_the_device_raises():
    """The control of the other law: made there, moved there, computed there, or promoted there."""
    x = torch.zeros(3, device=CUDA)
    for wrong in (
        lambda: torch.zeros(3, device=CUDA, dtype=torch.float64),
        lambda: torch.from_numpy(np.zeros(3)).to(CUDA),
        x.double,
        lambda: x.mean(dtype=torch.float64),
    ):
        with pytest.raises(AssertionError, match="float64"):
            wrong()
    assert torch.from_numpy(np.zeros(3)).float().to(CUDA).dtype is torch.float32
    with pytest.raises(AssertionError, match="NumPy"):
        x.numpy()
    assert x.cpu().double().numpy().dtype == np.float64 and bool((x == x).all()) and x.sum().item() == 0


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_forward_passes_losses_and_codes(tiny, changes):
    config = tiny(**changes)
    model, diffusion = build(config), Diffusion(config.diffusion)
    x, t, noise = inputs(model)
    epsilon = torch.zeros_like(x)
    x_t = diffusion.add_noise(x, t, epsilon)
    terms = diffusion.losses(model(x, x_t, diffusion.model_timesteps(t), noise), x, x_t, t, epsilon)
    assert {term.device.type for term in terms.values()} == {"cuda"}
    model.eval()
    if model.dim:
        assert model.encoder(x).device.type == "cuda"
        remeasure(model.encoder, [x, x])
    assert prior_term(diffusion, x).dtype is torch.float64


@pytest.mark.parametrize("name", samplers.available())
@pytest.mark.parametrize("changes", [{}, {"model__latent": "none"}, {"diffusion__variance": "learned-range"}])
def test_samplers_and_the_way_back(tiny, name, changes):
    model = build(tiny(**changes)).eval()
    for options in ({}, {"threshold": "dynamic"}, {"spacing": "log-snr"}):
        sampler = samplers.create(name, model.config.diffusion, 4, **options)
        noise = ImageNoise(0, [0, 1], model.shape, CUDA)
        with torch.no_grad():
            made = sampler.sample(model.denoiser(bits_of(model)), noise, None)
        assert made.device.type == "cuda" and made.shape == (2, *model.shape)
    with torch.no_grad():
        back = invert(sampler.process, model.denoiser(bits_of(model)), made)
    assert back.device.type == "cuda"


def test_the_bound(tiny):
    model = build(tiny()).eval()
    process, (x, _, _) = Diffusion(model.config.diffusion), inputs(model)
    generators = [np.random.default_rng(i) for i in range(2)]
    (terms,) = bound_terms([process], model.denoiser(bits_of(model)), x, 10, generators)
    assert terms.dtype is torch.float64


@pytest.fixture
def drawn_there(monkeypatch):
    """A step's random numbers as a GPU draws them, but for its generator, which a machine without one cannot make."""
    monkeypatch.setattr(draws, "torch_stream", lambda device, *name: None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__latent": "none"},
        {"diffusion__perturbation": 0.1},
        {"diffusion__weighting": "min-snr"},
        {"diffusion__timestep_sampling": "loss-second-moment", "diffusion__variance": "learned-range"},
        {"diffusion__timestep_sampling": "log-normal"},
        {"diffusion__timestep_sampling": "logit-normal"},
    ],
    ids=str,
)
def test_the_numbers_and_the_loss_of_a_step(tiny, drawn_there, changes):
    config = tiny(**changes)
    law = timesteps.create(config.diffusion)
    numbers = draws.draw(config, 16, CUDA, "step", 0, 0, timesteps=law).part(0, 2)
    held = [value for value in vars(numbers).values() if value is not None]
    assert {(value.device.type, len(value)) for value in held} == {("cuda", 8)}
    images = np.zeros((50, 8, 8, 1), np.uint8)
    x0 = Feed(images, np.arange(50), CUDA, 0, 16, 0, 2, mode="resident")(0, numbers.flip)
    assert x0.device.type == "cuda" and x0.shape == (8, 1, 8, 8)
    model, trainer = build(config), object.__new__(Trainer)
    trainer.diffusion = Diffusion(config.diffusion)
    terms = trainer.losses(model, x0, numbers, model.codes(x0, numbers.codes))
    assert {term.device.type for term in terms.values()} == {"cuda"}
    if law is not None:
        law.update(numbers.index, terms["loss"])


class Now:
    """A pool that reads where it is asked: fake tensors stay in their thread."""

    def __init__(self, *arguments, **options):
        pass

    def submit(self, call, *arguments):
        done = Future()
        done.set_result(call(*arguments))
        return done


def test_streamed_images_are_read_into_pinned_memory_and_moved(monkeypatch):
    """Without a GPU nothing can be pinned: that it is asked for is all there is to see."""
    asked, empty = [], torch.empty
    monkeypatch.setattr(
        torch,
        "empty",
        lambda *size, pin_memory=False, **rest: (asked.append(pin_memory), empty(*size, **rest))[1],
    )
    monkeypatch.setattr(feed, "ThreadPoolExecutor", Now)
    images = np.zeros((50, 8, 8, 3), np.uint8)
    stream = Feed(images, np.arange(50), CUDA, 0, 16, mode="stream")
    x0 = stream(0, torch.zeros(16, dtype=torch.bool, device=CUDA))
    assert (x0.device.type, x0.dtype, x0.shape) == ("cuda", torch.float32, (16, 3, 8, 8))
    assert asked.count(True) == feed.AHEAD + 1


@pytest.mark.parametrize("changes", [{}, {"model__latent": "none"}, {"model__tokens": "per-bit"}], ids=str)
def test_decoding_and_the_way_back(tiny, changes):
    model = build(tiny(**changes)).eval()
    bits = np.zeros((5, model.dim), np.uint8) if model.dim else None
    sampler = samplers.create("ddim", model.config.diffusion, 4, eta=0.5)
    start = np.zeros((5, *model.shape), np.float32)
    for given in (None, start):
        made = decode.decode(model, bits, sampler, range(5), 0, 2, start=given)
        assert made.dtype == np.uint8 and made.shape == (5, 8, 8, 1)
    assert decode.invert(model, made, bits, sampler, 2).shape == start.shape


@pytest.mark.parametrize("mode", ["mode", "sample"])
def test_encoding(tiny, mode):
    model = build(tiny()).eval()
    part = encode._part(model, np.zeros((5, 8, 8, 1), np.uint8), 0, mode, 0, 2)
    assert {column.device.type for column in part.values()} == {"cpu"}


def test_reconstructions_pictures_and_the_likelihood(tiny):
    model, images = build(tiny()).eval(), np.zeros((20, 8, 8, 1), np.uint8)
    made = reconstruct(model, images, Recipe(steps=4), 2, inversion_recipe(model.config.diffusion, 4))
    assert made.draws.shape == (2, *images.shape) and made.inverted.shape == images.shape
    assert preview(model, images, images).ndim == 3
    measured = bound(model, images, every=10, batch_size=8, log_prob=lambda codes: np.zeros(len(codes)))
    assert measured.terms.shape[0] == 20


@pytest.mark.parametrize("size", [8, 32, 64])
def test_the_features_of_evaluation(size):
    with CUDA:
        network = Classifier(3, size, 10).eval()
    features, logits = network(torch.zeros(2, 3, size, size, device=CUDA))
    assert (features.device.type, logits.device.type) == ("cuda", "cuda")


def test_an_extractor_takes_images_and_gives_features(digits, monkeypatch, tmp_path):
    with CUDA:
        network = Classifier(1, 8, 10).eval()
    network.to = lambda device: network  # fake parameters cannot be moved
    monkeypatch.setattr(
        features, "load", lambda file, size, channels: Trained(network, "digits", 0, None, None, "train", 1)
    )
    extractor = features.create("classifier", digits, CUDA, weights=tmp_path)
    found, logits = extractor(np.zeros((5, 8, 8, 1), np.uint8), 2)
    assert (len(found), logits.shape) == (5, (5, 10))
