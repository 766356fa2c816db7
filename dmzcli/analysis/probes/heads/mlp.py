"""A small multilayer perceptron: one hidden layer of 128 rectified units, its number of epochs chosen on valid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from dmzcli.analysis.probes.heads.base import Candidate, Head
from dmzcli.system.randomness import derive, torch_stream

Array = np.ndarray
WIDTH = 128
BATCH = 256
STEPS = 1000
"""Steps in all, but at least 5 epochs and at most 200."""
LOOKS = 8
"""How often valid is looked at, evenly spread."""


class Perceptron(Head):
    """What is there, but not linearly."""

    name = "mlp"
    summary = "a multilayer perceptron with one hidden layer of 128 units"

    def candidates(self, features: Array, values: Array, exclusive: bool, seed: int) -> Iterator[Candidate]:
        mean, spread = features.mean(0), max(float(features.std()), 1e-6)
        x = torch.from_numpy((features - mean) / spread)
        y = torch.from_numpy(values.astype(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive("probe mlp", seed))
            network = nn.Sequential(nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, y.shape[1]))
        loss = nn.CrossEntropyLoss() if exclusive else nn.BCEWithLogitsLoss()
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
        order = torch_stream(torch.device("cpu"), "probe mlp order", seed)
        per_epoch = -(-len(x) // BATCH)
        epochs = int(np.clip(-(-STEPS // per_epoch), 5, 200))
        looks = set(np.linspace(0, epochs, LOOKS + 1).round().astype(int)[1:].tolist())

        def predict(given: Array) -> Array:
            with torch.no_grad():
                return np.asarray(network(torch.from_numpy((given - mean) / spread)).numpy())

        for epoch in range(1, epochs + 1):
            for batch in torch.randperm(len(x), generator=order).split(BATCH):
                optimizer.zero_grad()
                loss(network(x[batch]), y[batch]).backward()
                optimizer.step()
            if epoch in looks:
                yield Candidate({"epochs": epoch}, predict)
