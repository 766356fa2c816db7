"""Datasets: images, labels, attributes and disjoint splits under one contract."""

from dmzcli.data.contract import SPLITS, TEST, TRAIN, VALID, Content, Dataset, Progress, Source
from dmzcli.data.fitting import FITS, Fitting, with_channels
from dmzcli.data.registry import load, names, register, status

__all__ = [
    "FITS",
    "SPLITS",
    "TEST",
    "TRAIN",
    "VALID",
    "Content",
    "Dataset",
    "Fitting",
    "Progress",
    "Source",
    "load",
    "names",
    "register",
    "status",
    "with_channels",
]
