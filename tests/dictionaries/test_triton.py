"""The Triton kernels equal their dense specification: on a CPU through Triton's interpreter, and with `-m gpu` compiled, on a CUDA device."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton", reason="Triton is published for Linux only")

from microtome.dictionaries.kernels import Pairs, Product, Proposer, cuda, ops, reference, torch_ops, triton_encode
from microtome.dictionaries.kernels.triton_sums import feature_sums

SHAPES = [(1, 4, 8, 1), (17, 18, 70, 3), (5, 3, 2, 9), (2, 33, 75, 66)]
"""(n, d_in, d_dict, k): one row; ragged rows, widths and tiles; k above d_dict; k above a tile and above the number of groups."""
PRODUCTS: list[Product] = ["float32", "bfloat16"]
compiled = pytest.mark.skipif(torch.cuda.is_available(), reason="a process either interprets or compiles Triton, and here is a CUDA device")


@pytest.fixture(params=[pytest.param("cpu", marks=compiled, id="interpreter"), pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def through_triton(device: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Send the `ops` to Triton also on a CPU."""
    monkeypatch.setattr(ops, "_backend", lambda *tensors: cuda)
    return device


class Problem:
    """A batch and an encoder, with their dense pre-activations."""

    def __init__(self, n: int, d_in: int, d_dict: int, *, device: str) -> None:
        generator = torch.Generator().manual_seed(n + d_in + d_dict)
        self.x = torch.randn(n, d_in, generator=generator).to(device)
        self.W, self.table = (torch.randn(2, d_dict, d_in, generator=generator) / d_in**0.5).to(device)
        self.b = (0.3 * torch.randn(d_dict, generator=generator)).to(device)

    @property
    def pre(self) -> torch.Tensor:
        return self.x @ self.W.T + self.b


class Largest(TorchDispatchMode):
    """The most elements that any floating-point result of torch has had."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, *rest: Any) -> Any:
        args, kwargs = (*rest, (), {})[:2]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.elements = max(self.elements, result.numel())
        return result


def mask_of(pairs: Pairs) -> torch.Tensor:
    count = torch.zeros(pairs.rows, pairs.d_dict, dtype=torch.int64, device=pairs.feature.device)
    count.index_put_((pairs.row, pairs.feature), torch.ones_like(pairs.feature), accumulate=True)
    assert int(count.max()) <= 1, "a pair occurs twice"
    return count.bool()


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_top_k_pairs_are_the_largest_of_each_row(shape: tuple[int, int, int, int], *, product: Product, absolute: bool, device: str) -> None:
    n, d_in, d_dict, k = shape
    it = Problem(n, d_in, d_dict, device=device)
    pairs, pre = cuda.top_k_pairs(it.x, it.W, it.b, k=k, proposer=Proposer(it.W, product), absolute=absolute)
    assert pairs.indptr.diff().tolist() == [min(k, d_dict)] * n
    found, wanted = mask_of(pairs), reference.keep_largest(it.pre.abs() if absolute else it.pre, k)
    if product == "bfloat16":
        assert (found & wanted).sum() >= 0.9 * wanted.sum()
    else:
        assert torch.equal(found, wanted)
    torch.testing.assert_close(pre, it.pre[pairs.row, pairs.feature], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [5, 20])
def test_no_top_k_element_is_lost_when_all_are_neighbours(k: int, device: str) -> None:
    it = Problem(4, 16, 200, device=device)
    it.b[33:60] += 50.0
    pairs, _ = cuda.top_k_pairs(it.x, it.W, it.b, k=k, proposer=Proposer(it.W, "float32"))
    assert torch.equal(mask_of(pairs), reference.keep_largest(it.pre, k))


def test_a_product_in_bf16_that_errs_in_the_order_and_at_the_bound_costs_nothing(device: str) -> None:
    x, W, b = torch.ones(1, 2, device=device), torch.zeros(64, 2, device=device), torch.zeros(64, device=device)
    W[5], W[40] = torch.tensor([1.0038, 1.0038]), torch.tensor([1.0040, 1.0])
    product = x.bfloat16().float() @ W.bfloat16().float().T
    assert product[0, 5] < product[0, 40]
    pairs, pre = cuda.top_k_pairs(x, W, b, k=1, proposer=Proposer(W, "bfloat16"))
    assert pairs.feature.tolist() == [5]
    torch.testing.assert_close(pre, torch.tensor([2.0076], device=device))
    bound = torch.full_like(b, 2.005)
    assert product[0, 5] < 2.005 < product[0, 40]
    assert cuda.pairs_above(x, W, b, bound=bound, proposer=Proposer(W, "bfloat16")).pairs.feature.tolist() == [5]


def test_ties_and_minus_infinity_give_k_different_features(device: str) -> None:
    it = Problem(3, 8, 81, device=device)
    it.W.zero_()
    it.b.zero_()
    it.b[40:] = -torch.inf
    for k in (7, 40, 75, 81):
        pairs, pre = cuda.top_k_pairs(it.x, it.W, it.b, k=k, proposer=Proposer(it.W, "float32"))
        assert mask_of(pairs).sum(1).tolist() == [k] * 3
        assert (pre.view(3, k) == 0).sum(1).tolist() == [min(k, 40)] * 3


def test_pre_activations_are_never_whole(device: str) -> None:
    it = Problem(17, 4, 330, device=device)
    with Largest() as largest:
        cuda.top_k_pairs(it.x, it.W, it.b, k=3, proposer=Proposer(it.W, "float32"))
        cuda.pairs_above(it.x, it.W, it.b, bound=torch.full_like(it.b, 4.0), proposer=Proposer(it.W, "float32"))
    assert 0 < largest.elements < 17 * 330 / 3


@pytest.mark.parametrize("rows_at_once", [4, 100])
def test_rows_go_in_blocks_where_the_scratch_would_be_large(rows_at_once: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Problem(6, 8, 80, device=device)
    monkeypatch.setattr(triton_encode, "_SCRATCH_BYTES", rows_at_once * 4 * 5)
    pairs, _ = cuda.top_k_pairs(it.x, it.W, it.b, k=3, proposer=Proposer(it.W, "float32"))
    assert torch.equal(mask_of(pairs), reference.keep_largest(it.pre, 3))
    pairs, _ = cuda.pairs_above(it.x, it.W, it.b, bound=torch.zeros_like(it.b), proposer=Proposer(it.W, "float32"))
    assert torch.equal(mask_of(pairs), it.pre > 0)


@pytest.mark.parametrize("level", [-9.0, 0.8])
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_above_are_all_that_pass_their_bound(shape: tuple[int, int, int, int], *, product: Product, level: float, device: str) -> None:
    n, d_in, d_dict, _ = shape
    it = Problem(n, d_in, d_dict, device=device)
    bound = level + 0.1 * torch.randn(d_dict, generator=torch.Generator().manual_seed(5)).to(device)
    pairs, pre = cuda.pairs_above(it.x, it.W, it.b, bound=bound, proposer=Proposer(it.W, product))
    assert torch.equal(mask_of(pairs), reference.keep_above(it.pre, bound))
    torch.testing.assert_close(pre, it.pre[pairs.row, pairs.feature], rtol=1e-5, atol=1e-5)


def test_a_product_in_bf16_proposes_few_pairs_too_many(device: str) -> None:
    """As a list of all pairs would pass every other test."""
    it = Problem(16, 64, 192, device=device)
    low, none = torch.full_like(it.b, 1.5), torch.zeros_like(it.b)
    room = 2.0**-7 * torch.linalg.vector_norm(it.W, dim=1) * torch.linalg.vector_norm(it.x, dim=1)[:, None]
    found = triton_encode._maybe_above(it.x, it.b, Proposer(it.W, "bfloat16"), low=low, slack=none, size=torch.zeros_like(it.x[:, 0]))
    pairs = Pairs(torch.nn.functional.pad(found.counts.cumsum(0), (1, 0)), found.feature, 192)
    assert not bool((mask_of(pairs) & (it.pre + room <= low)).any())
    assert not bool((~mask_of(pairs) & (it.pre - room > low)).any())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, under the interpreter
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_hidden(bad: float, device: str) -> None:
    it = Problem(3, 16, 40, device=device)
    it.x[1, 3] = bad
    it.W[7, 2] = torch.nan
    top = cuda.top_k_pairs(it.x, it.W, it.b, k=2, proposer=Proposer(it.W, "float32"))
    above = cuda.pairs_above(it.x, it.W, it.b, bound=torch.full_like(it.b, 3.0), proposer=Proposer(it.W, "float32"))
    for pairs, pre in (top, above):
        assert mask_of(pairs)[[0, 2], 7].all(), "feature 7 is not a number on any row"
        assert pre[pairs.feature == 7].isnan().all()
        assert not bool(cuda.decode(pairs, pre, it.table).isfinite().any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 4, 8), (9, 18, 20), (3, 530, 7)])
def test_sums_over_pairs_are_products_with_the_dense_matrix(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> None:
    n, d_in, d_dict = shape
    it = Problem(n, d_in, d_dict, device=device)
    row, feature = (it.pre > 0.7).nonzero(as_tuple=True)
    pairs = Pairs.of_rows(row, feature, rows=n, d_dict=d_dict)
    values = torch.randn(len(row), generator=torch.Generator().manual_seed(3)).to(device, dtype)
    x, table, dense = it.x.to(dtype), it.table.to(dtype), pairs.dense(values).float()
    off = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(cuda.decode(pairs, values, table).float(), dense @ table.float(), rtol=off, atol=off)
    torch.testing.assert_close(cuda.feature_sums(pairs, values, x).float(), dense.T @ x.float(), rtol=off, atol=off)
    torch.testing.assert_close(cuda.row_dots(pairs, x, table).float(), (x.float() @ table.float().T)[row, feature], rtol=off, atol=off)


def test_a_feature_on_very_many_rows_is_summed_in_runs(device: str) -> None:
    row, feature = torch.tensor([(row, feature) for row in range(13) for feature in (0, 3, 4) if feature != 3 or row < 5]).T.to(device)
    pairs = Pairs.of_rows(row, feature, rows=13, d_dict=6)
    x = Problem(13, 21, 6, device=device).x
    weight = torch.linspace(-1, 1, len(row)).to(device)
    for split in (4, 5, 12, 13):
        torch.testing.assert_close(feature_sums(pairs, weight, x, split=split), pairs.dense(weight).T @ x, rtol=1e-5, atol=1e-5)


def test_no_rows_and_no_pairs_are_fine(device: str) -> None:
    it = Problem(2, 8, 20, device=device)
    proposer = Proposer(it.W, "float32")
    assert cuda.top_k_pairs(it.x[:0], it.W, it.b, k=3, proposer=proposer).pairs.rows == 0
    assert cuda.pairs_above(it.x[:0], it.W, it.b, bound=it.b, proposer=proposer).pairs.rows == 0
    pairs, pre = cuda.pairs_above(it.x, it.W, it.b, bound=it.b + 100, proposer=proposer)
    assert (pairs.rows, len(pre)) == (2, 0)
    assert torch.equal(cuda.decode(pairs, pre, it.table), torch.zeros_like(it.x))
    assert torch.equal(cuda.feature_sums(pairs, pre, it.x), torch.zeros_like(it.W))
    assert len(cuda.row_dots(pairs, it.x, it.table)) == 0


@pytest.mark.parametrize("guess", [0.0, 50.0])
def test_batch_top_k_is_the_largest_of_the_batch(guess: float, through_triton: str) -> None:
    it = Problem(9, 12, 70, device=through_triton)
    pairs, _, threshold = ops.batch_top_k(it.x, it.W, it.b, k=4, proposer=Proposer(it.W, "bfloat16"), guess=guess)
    wanted = reference.keep_batch_largest(it.pre, 4)
    assert torch.equal(mask_of(pairs), wanted)
    assert threshold == pytest.approx(float(it.pre[wanted].min()), abs=1e-5)


def test_any_layout_of_the_tensors_is_taken(device: str) -> None:
    it = Problem(9, 12, 40, device=device)
    x, W, b = (torch.stack([each, -each], -1)[..., 0] for each in (it.x, it.W, it.b))
    pairs, pre = cuda.top_k_pairs(x, W, b, k=4, proposer=Proposer(W, "float32"))
    assert torch.equal(mask_of(pairs), reference.keep_largest(it.pre, 4))
    strided = Pairs(pairs.indptr, torch.stack([pairs.feature, torch.zeros_like(pairs.feature)], -1)[:, 0], pairs.d_dict)
    torch.testing.assert_close(cuda.row_dots(strided, x, W) + b[strided.feature], pre, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cuda.decode(strided, pre, W), pairs.dense(pre) @ it.W, rtol=1e-5, atol=1e-5)


def test_cuda_tensors_go_to_triton_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = torch.empty(2, 2, device="cuda")
        assert ops._backend(there) is cuda
        assert ops._backend(there.double()) is torch_ops
        monkeypatch.setattr(ops, "find_spec", lambda name: None)
        assert ops._backend(there) is torch_ops
    assert ops._backend(torch.empty(2, 2)) is not cuda
