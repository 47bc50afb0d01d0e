"""The fast kernels equal their dense specification, values and gradients, over shapes, k and number types."""

import pytest
import torch

from microtome.dictionaries.kernels import Proposer, reference, sparse
from microtome.dictionaries.kernels.topk import top_k
from microtome.dictionaries.kernels.weights import Weights

SHAPES = [(1, 4, 8, 1), (7, 16, 24, 3), (33, 12, 64, 64), (130, 32, 512, 8), (65, 24, 1000, 16)]
"""(n, d_in, d_dict, k): one row, ragged blocks, k = d_dict, two-stage top-k, a width that groups do not divide."""


def weights_of(d_in: int, d_dict: int, *, seed: int = 0) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    W_enc, W_dec = torch.randn(2, d_dict, d_in, generator=generator) / d_in**0.5
    b_enc = 0.3 * torch.randn(d_dict, generator=generator)
    return Weights(W_enc=W_enc, W_dec=W_dec, b_enc=b_enc, b_dec=torch.randn(d_in, generator=generator))


def rows_of(n: int, d_in: int) -> torch.Tensor:
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(99))


def require_gradients(weights: Weights) -> Weights:
    return Weights(*(weight.clone().requires_grad_() for weight in weights))


@pytest.mark.parametrize("shape", SHAPES)
def test_step_equals_autograd_of_the_dense_formula(shape: tuple[int, int, int, int]) -> None:
    n, d_in, d_dict, k = shape
    z, weights = rows_of(n, d_in), weights_of(d_in, d_dict)
    dense = require_gradients(weights)
    codes = reference.encode(z, dense, k=k)
    loss = reference.loss(z, dense, k=k)
    loss.backward()

    fast = sparse.step(z, weights, k=k, proposer=Proposer(weights.W_enc, "float32"))

    torch.testing.assert_close(fast.loss, loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.zeros(n, d_dict).scatter(1, fast.indices, fast.values), codes.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast.error, (reference.decode(codes, dense) - z).detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(fast.counts, (codes > 0).sum(0))
    for mine, theirs in zip(fast.gradients, dense, strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-5, atol=1e-5)


def test_with_a_bf16_product_values_and_gradients_stay_exact_for_the_features_chosen() -> None:
    z, weights = rows_of(64, 48), weights_of(48, 256)
    fast = sparse.step(z, weights, k=8, proposer=Proposer(weights.W_enc, "bfloat16"))
    dense = require_gradients(weights)
    pre = (z - dense.b_dec) @ dense.W_enc.T + dense.b_enc
    chosen = torch.zeros_like(pre, dtype=torch.bool).scatter(1, fast.indices, True)
    loss = (reference.decode(torch.where(chosen, pre.relu(), 0.0), dense) - z).square().mean()
    loss.backward()
    torch.testing.assert_close(fast.loss, loss.detach(), rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(fast.gradients, dense, strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-5, atol=1e-5)
    agree = (chosen & reference.keep_largest(pre, 8)).sum() / chosen.sum()
    assert agree > 0.95


@pytest.mark.parametrize(("dead", "k_aux"), [(1, 4), (20, 64), (64, 8)])
def test_revival_equals_autograd_of_the_dense_formula(dead: int, k_aux: int) -> None:
    z, weights = rows_of(40, 16), weights_of(16, 64)
    dead_features = torch.randperm(64, generator=torch.Generator().manual_seed(1))[:dead].sort().values
    dense = require_gradients(weights)
    error = sparse.step(z, weights, k=4, proposer=Proposer(weights.W_enc, "float32")).error
    loss = reference.revival_loss(z, -error, dense, dead=dead_features, k_aux=k_aux)
    loss.backward()

    mine = sparse.revive(z - weights.b_dec, error, weights, dead=dead_features, k_aux=k_aux)

    torch.testing.assert_close(mine.loss, loss.detach(), rtol=1e-5, atol=1e-6)
    for name in ("W_enc", "W_dec"):
        gradient = getattr(dense, name).grad
        torch.testing.assert_close(getattr(mine, name), gradient[dead_features], rtol=1e-5, atol=1e-5)
        if dead <= k_aux:
            assert (getattr(mine, name).reshape(dead, -1).norm(dim=1) > 0).all(), f"{name}: a dead feature has no gradient"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(3, 8, 2), (5, 1024, 32), (4, 1024, 100), (6, 1003, 7), (2, 5, 9)])
def test_top_k_keeps_the_largest_values(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, width, k = shape
    pre = torch.randn(n, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = top_k(pre, k)
    assert all(len(set(row)) == min(k, width) for row in found.tolist())
    kept = pre.gather(1, found).sort(dim=1, descending=True).values
    assert torch.equal(kept, pre.topk(min(k, width), dim=1).values)
