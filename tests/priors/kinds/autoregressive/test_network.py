"""The causal network: no logit sees its own bit or a later one, and the cache changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import priors
from priors.kinds.autoregressive.cached_sampling import draw
from priors.kinds.autoregressive.network import CausalNetwork
from priors.kinds.autoregressive.orders import tree_order

PATHS = {
    "both": {"hidden": 40, "channels": 8},
    "position-specific": {"hidden": 40, "channels": 0},
    "convolutional": {"hidden": 0, "channels": 8},
    "fewer units than bits": {"hidden": 5, "channels": 0},
}


def network(dim: int, given_dim: int, sizes: dict[str, int]) -> CausalNetwork:
    torch.manual_seed(0)
    net = CausalNetwork(dim, given_dim, layers=3, convolutions=3, heads=2, dropout=0.0, **sizes).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # away from the zeros that some start at
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    net.start_at(torch.randn(dim), torch.randn(dim, given_dim + dim))
    return net


def random_signs(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 2, (rows, width), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


@pytest.mark.parametrize("sizes", PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize("given_dim", [0, 3])
def test_logits_depend_on_earlier_bits_and_given_only(sizes: dict[str, int], given_dim: int) -> None:
    net, x, given = network(11, given_dim, sizes), random_signs(4, 11, 1), random_signs(4, given_dim, 2)
    base = net(x, given)
    for t in range(11):
        changed = x.clone()
        changed[:, t] *= -1
        moved = (net(changed, given) - base).abs().amax(0)
        assert (moved[: t + 1] < 1e-6).all()
        assert t == 10 or sizes["hidden"] == 5 or (moved[t + 1 :] > 0).any()
    if given_dim:
        assert ((net(x, -given) - base).abs().amax(0) > 0).all()


@pytest.mark.parametrize("sizes", PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize("given_dim", [0, 3])
def test_the_cache_changes_nothing(sizes: dict[str, int], given_dim: int) -> None:
    """Sums in another order differ by about 1e-6, so a uniform number within that of its probability may
    fall on the other side: of 64 × 11 bits none should."""
    net, given = network(11, given_dim, sizes), random_signs(64, given_dim, 3)
    u = torch.rand(64, 11, generator=torch.Generator().manual_seed(4))
    with_cache, without = (draw(net, u, given, 0.8, cached) for cached in (True, False))
    assert torch.equal(with_cache, without)
    assert 0.2 < with_cache.float().mean() < 0.8


def test_a_tree_order_walks_along_the_edges() -> None:
    """The tree of a chain is a path: from its root to one end, one jump, then to the other end."""
    rng = np.random.default_rng(0)
    flips = rng.random((5000, 9)) < 0.15
    order = tree_order((np.cumsum(flips, axis=1) % 2).astype(np.uint8), rng)
    assert sorted(order) == list(range(9))
    assert (np.abs(np.diff(order)) != 1).sum() <= 1


def test_a_given_order_is_used_and_checked() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (60, 4), np.uint8)
    options = {"hidden": 8, "channels": 0, "epochs": 1}
    prior = priors.create("autoregressive", dim=4, order=(2, 0, 3, 1), **options)
    prior.fit(bits)
    assert list(prior._orders[0]) == [2, 0, 3, 1]
    assert priors.parse_options("autoregressive", {"order": "1,0"}) == {"order": (1, 0)}
    with pytest.raises(priors.PriorError, match=r"option 'order' .* is no permutation of 0 to 3"):
        priors.create("autoregressive", dim=4, order=(0, 1, 2, 2))
    with pytest.raises(
        priors.PriorError, match=r"option 'heads' .* is 3; expected a divisor of 'channels', 32"
    ):
        priors.create("autoregressive", dim=4, heads=3)
