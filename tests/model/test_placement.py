"""Everything lies on one device: checked on a GPU's tensors without a GPU.

Under torch's FakeTensorMode a tensor has a device, a shape and a type, and no numbers. An operation on tensors of two
devices raises, as it would on a GPU.
"""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dmzcli.diffusion import samplers
from dmzcli.diffusion.bound import bound_terms, prior_term
from dmzcli.diffusion.inversion import invert
from dmzcli.diffusion.process import Diffusion
from dmzcli.evaluation.classifier import Classifier
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.batch_norm import remeasure
from dmzcli.system.randomness import ImageNoise
from dmzcli.training.feed import Feed
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


@pytest.fixture(autouse=True)
def fake():
    with FakeTensorMode():
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
    assert prior_term(diffusion, x).device.type == "cuda"


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
    assert terms.device.type == "cuda"


def test_training_images_and_the_loss_of_a_step(tiny, monkeypatch):
    """Resident images are gathered, mirrored and scaled there; the step's loss is taken there."""
    config = tiny()
    images = np.zeros((50, 8, 8, 1), np.uint8)
    feed = Feed(images, np.arange(50), CUDA, 0, 16, mode="resident")
    x0 = feed(0, torch.zeros(16, dtype=torch.bool, device=CUDA))
    assert x0.device.type == "cuda" and x0.shape == (16, 1, 8, 8)
    model = build(config)

    class Numbers:
        index = torch.zeros(16, dtype=torch.long, device=CUDA)
        noise = perturbed = torch.zeros_like(x0)

    trainer = object.__new__(Trainer)
    trainer.diffusion = Diffusion(config.diffusion)
    codes = model.codes(x0, torch.zeros(16, *model.latent.noise_shape, device=CUDA))
    assert trainer.losses(model, x0, Numbers, codes)["loss"].device.type == "cuda"


@pytest.mark.parametrize("size", [8, 32, 64])
def test_the_features_of_evaluation(size):
    with CUDA:
        network = Classifier(3, size, 10).eval()
    features, logits = network(torch.zeros(2, 3, size, size, device=CUDA))
    assert (features.device.type, logits.device.type) == ("cuda", "cuda")
