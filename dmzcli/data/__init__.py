"""Datasets: images, labels, attributes and disjoint splits under one contract."""

from dmzcli.data.crops import FITS, Crop, with_channels
from dmzcli.data.dataset import SPLITS, Content, Dataset, Progress, Source
from dmzcli.data.loading import find, load, load_pairs, prepare
from dmzcli.data.registry import names, register, status
from dmzcli.data.sources.edges import Pairs
from dmzcli.data.splits import TEST, TRAIN, VALID

__all__ = [
    "FITS",
    "SPLITS",
    "TEST",
    "TRAIN",
    "VALID",
    "Content",
    "Crop",
    "Dataset",
    "Pairs",
    "Progress",
    "Source",
    "find",
    "load",
    "load_pairs",
    "names",
    "prepare",
    "register",
    "status",
    "with_channels",
]
