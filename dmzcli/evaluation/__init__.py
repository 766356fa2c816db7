"""Evaluation: how good images are, in numbers that can be trusted and repeated.

A score compares generated images with one split of a dataset in the features of a frozen network; it is worth
nothing without its circumstances, so every score lives on a :class:`~dmzcli.evaluation.card.Card`.
"""
