r"""Logistic regression: p(y = k | r) ∝ exp(w_k · r + b_k), or σ(w_k · r + b_k) for each attribute by itself.

    minimize  −1/N Σ log p(y_i | r_i) + ‖W‖² / (2 C N)

by L-BFGS in the coordinates V = Lᵀ W, where L Lᵀ = s R'R / N + I / (C N) is the curvature that the objective would
have if every probability had the mean variance s. In these the Hessian is close to the identity, and some tens of steps
are enough where plain L-BFGS takes hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from dmzcli.analysis.probes.heads.base import Candidate, Head

Array = np.ndarray
INVERSE_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Values of C, from the strongest penalty on: each fit starts from the last."""
MAX_ITERATIONS = 500
TOLERANCE = 1e-3
"""Largest entry of the gradient in V where a fit ends."""
DECREASE = 1e-6
"""Or where a step lowers the objective by a smaller share than this."""


class Logistic(Head):
    """Linear, its L2 strength chosen on valid.

    Arguments:
        inverse_strengths: Values of C, ascending.
    """

    name = "logistic"
    summary = "logistic regression with an L2 penalty"

    def __init__(self, inverse_strengths: tuple[float, ...] = INVERSE_STRENGTHS) -> None:
        self.inverse_strengths = inverse_strengths

    def candidates(self, features: Array, values: Array, exclusive: bool, seed: int) -> Iterator[Candidate]:
        # Centering changes no probe, since the intercept is free, but the solver needs fewer steps.
        mean = features.mean(0)
        centered = torch.from_numpy(features - mean)
        targets = torch.from_numpy(values.astype(np.float32))
        gram = (centered.T @ centered).double().numpy() / len(centered)
        share = values.mean(0)
        variance = max(float((share * (1 - share)).mean()), 1e-4)
        weights = np.zeros((features.shape[1] + 1, values.shape[1]))
        for strength in self.inverse_strengths:
            ridge = 1 / (strength * len(features))
            weights, converged = _fit(centered, targets, exclusive, gram, variance, ridge, weights)
            frozen = weights.astype(np.float32)

            def predict(x: Array, frozen: Array = frozen) -> Array:
                return np.asarray((x - mean) @ frozen[:-1] + frozen[-1])

            yield Candidate({"C": strength}, predict, converged)


def _fit(
    features: torch.Tensor,
    targets: torch.Tensor,
    exclusive: bool,
    gram: Array,
    variance: float,
    ridge: float,
    start: Array,
) -> tuple[Array, bool]:
    """Weights with the intercepts in the last row, (F + 1, K), and whether the solver converged."""
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import minimize

    lower = cholesky(variance * gram + ridge * np.eye(len(gram)), lower=True)
    scale = np.sqrt(variance)
    count, shape = len(features), start.shape

    def weights_of(vector: Array) -> Array:
        inner = vector.reshape(shape)
        return np.concatenate([solve_triangular(lower, inner[:-1], lower=True, trans=1), inner[-1:] / scale])

    def objective(vector: Array) -> tuple[float, Array]:
        weights = weights_of(vector)
        single = torch.from_numpy(weights.astype(np.float32))
        logits = torch.addmm(single[-1], features, single[:-1])
        if exclusive:
            logs = logits.log_softmax(1)
            loss = -(logs * targets).sum(dtype=torch.float64)
            residual = logs.exp_() - targets
        else:
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum").double()
            residual = logits.sigmoid_() - targets
        slope = (residual.T @ features).T.double().numpy() / count + ridge * weights[:-1]
        gradient = np.concatenate(
            [
                solve_triangular(lower, slope, lower=True),
                residual.sum(0, dtype=torch.float64).numpy()[None] / count / scale,
            ]
        )
        return float(loss) / count + ridge / 2 * float((weights[:-1] ** 2).sum()), gradient.ravel()

    first = np.concatenate([lower.T @ start[:-1], start[-1:] * scale]).ravel()
    done = minimize(
        objective,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": DECREASE, "maxcor": 20},
    )
    return weights_of(done.x), bool(done.success)
