"""Fitting the autoencoder: one optimizer step, its loop, its checkpoints, its feed, its cost."""

from dmzcli.training.loop import Outcome, train

__all__ = ["Outcome", "train"]
