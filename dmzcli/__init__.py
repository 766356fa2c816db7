"""Diffusion autoencoders with binary latents: images ↔ bits, bits → images in few steps.

Three nouns carry the package: the *autoencoder* (:mod:`dmzcli.model.autoencoder`), the *prior* over its
bits (the separate package :mod:`priors`) and the *sampler* (:mod:`dmzcli.diffusion.samplers`).
"""

__version__ = "0.1.0"
