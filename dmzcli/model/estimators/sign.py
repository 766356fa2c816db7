r"""Deterministic straight-through: z is the most probable corner, without noise or temperature, and its slope is 1.

Of a bit with the log-odds m this is s = sign(m), ds/dm = 1, as in lookup-free quantization; of an ordinal variable the
rounding of its location, as in finite scalar quantization; of a categorical one the corner of the largest logit.
Training codes are evaluation codes.

Y. Bengio, N. Léonard, A. Courville, 2013, arXiv 1308.3432 (straight-through).
L. Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation", 2023, arXiv 2310.05737 (LFQ).
F. Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", 2023, arXiv 2309.15505 (FSQ).
"""

from __future__ import annotations

from torch import Tensor

from dmzcli.model.estimators.base import Estimator, Values, corners, through


class Rule(Estimator):
    """The most probable codes with the identity as gradient."""

    def relax(self, values: Values, logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
        logits = logits.float()
        return through(corners(values.scores(logits)), values.linear(logits))
