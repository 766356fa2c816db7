"""Modules of tensors: encoder, latent, backbone; no schedule, no folder."""
