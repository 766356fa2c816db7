"""A prior of one's own: a Markov chain along the bits, in some forty lines.

.. math:: p(b) = p(b_1) \\prod_{i > 1} p(b_i \\mid b_{i-1})

The base class owns the checks, the held-out codes, the report, saving, loading, seeds and the prefix property of
samples; a kind says how it fits, what log p(b) is, and how uniform numbers become codes. Here it registers itself. A
package offers it to every command of dmz (``dmz fit-prior --kind markov``) by an entry point in its pyproject.toml:

    [project.entry-points."dmz.priors"]
    markov = "my_package.my_module:Markov"

    python examples/custom_prior.py
"""

from __future__ import annotations

import dataclasses
import tempfile
from typing import Any

import numpy as np

import priors


@dataclasses.dataclass(frozen=True)
class MarkovOptions:
    """Options are the fields of a frozen dataclass; they are checked, and read from ``--set key=value``."""

    smoothing: float = priors.option(0.5, "pseudo-count of each value of a bit", low=1e-6)


@priors.register
class Markov(priors.Prior):
    """Each bit depends on the one before it."""

    kind = "markov"
    summary = "a Markov chain along the bits"
    Options = MarkovOptions

    def _fit(self, train: priors.Rows, valid: priors.Rows, fit: priors.Fit) -> dict[str, Any]:
        if train.given is not None:
            raise priors.PriorError("given was passed; 'markov' cannot use it", "leave given out")
        before = np.hstack([np.zeros((len(train), 1), np.uint8), train.bits[:, :-1]])
        counts = np.stack([((before == x) & (train.bits == 1)).sum(0) for x in (0, 1)])
        totals = np.stack([(before == x).sum(0) for x in (0, 1)])
        a = self.options.smoothing
        self._p = (counts + a) / (totals + 2 * a)  # (2, D): p(b_i = 1 | b_{i-1} = x)
        return {}

    def _log_prob(self, rows: priors.Rows) -> np.ndarray:
        before = np.hstack([np.zeros((len(rows), 1), np.uint8), rows.bits[:, :-1]])
        p = self._p[before, np.arange(self.dim)]
        return np.log(np.where(rows.bits == 1, p, 1 - p)).sum(1)

    def _sample(self, u: np.ndarray, given: np.ndarray | None, temperature: float) -> np.ndarray:
        odds = (np.log(self._p) - np.log1p(-self._p)) / temperature
        p, out = 1 / (1 + np.exp(-odds)), np.zeros(u.shape, np.uint8)
        for i in range(self.dim):
            before = out[:, i - 1] if i else np.zeros(len(u), np.uint8)
            out[:, i] = u[:, i] < p[before, i]
        return out

    def _state(self) -> dict[str, np.ndarray]:
        return {"p": self._p}

    def _load_state(self, state: dict[str, np.ndarray]) -> None:
        self._p = state["p"].reshape(2, self.dim)


def main() -> None:
    from sklearn.datasets import load_digits

    bits = (load_digits().data > 7).astype(np.uint8)  # 1,797 images of 8 × 8 pixels, as 64 bits each
    train, valid = bits[:1500], bits[1500:]
    for kind in ("uniform", "bernoulli", "markov", "chow-liu"):
        prior = priors.create(kind, dim=64)
        report = prior.fit(train, valid=valid)
        print(f"{kind:10} {report.valid_bits_per_code:6.2f} held-out bits per code")
    with tempfile.TemporaryDirectory() as folder:
        markov = priors.create("markov", dim=64)
        markov.fit(train)
        markov.save(folder)
        again = priors.load(folder)
        assert (again.sample(5, seed=1) == markov.sample(5, seed=1)).all()
    print(np.array([" ", "#"])[again.sample(1, seed=1)[0].reshape(8, 8)])


if __name__ == "__main__":
    main()
