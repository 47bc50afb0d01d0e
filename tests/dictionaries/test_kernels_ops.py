"""Every primitive equals its dense specification over shapes, number types of the product, and rows that are odd."""

from collections.abc import Callable

import pytest
import torch
from jaxtyping import TypeCheckError

from microtome.dictionaries.kernels import Pairs, Product, Proposer, batch_top_k, decode, feature_sums, pairs_above, reference, row_dots, top_k_pairs
from microtome.errors import ShapeMismatch

SHAPES = [(1, 4, 8, 1), (7, 17, 24, 3), (33, 12, 64, 64), (130, 32, 512, 8), (65, 24, 1003, 16), (5, 3, 2, 9), (300, 40, 777, 5)]
"""(n, d_in, d_dict, k): one row, ragged widths and blocks, k = d_dict, k above d_dict."""
PRODUCTS: list[Product] = ["float32", "bfloat16", "int8"]


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other products are tested in torch alone; `int8` takes the compiled kernels where there are any."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if parameters.get("product") != "int8":
        monkeypatch.setenv("MICROTOME_NATIVE", "0")


class Problem:
    """A batch and an encoder, with their dense pre-activations."""

    def __init__(self, n: int, d_in: int, d_dict: int, *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, d_in, generator=generator)
        self.W, self.table = torch.randn(2, d_dict, d_in, generator=generator) / d_in**0.5
        self.b = 0.3 * torch.randn(d_dict, generator=generator)
        self.pre = self.x @ self.W.T + self.b


def mask_of(pairs: Pairs) -> torch.Tensor:
    assert len(pairs.feature) == int(pairs.indptr[-1])
    kept = torch.zeros(pairs.rows, pairs.d_dict, dtype=torch.int64).index_put_((pairs.row, pairs.feature), torch.tensor(1), accumulate=True)
    assert int(kept.max()) <= 1, "a pair occurs twice"
    return kept.bool()


def assert_same_choice(found: torch.Tensor, wanted: torch.Tensor, product: Product) -> None:
    """The same pairs; a product in bf16 may miss a few."""
    if product == "bfloat16":
        assert (found & wanted).sum() >= 0.9 * wanted.sum()
    else:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("absolute", [False, True])
def test_top_k_pairs_are_the_largest_of_each_row(shape: tuple[int, int, int, int], product: Product, absolute: bool) -> None:
    n, d_in, d_dict, k = shape
    it = Problem(n, d_in, d_dict)
    pairs, pre = top_k_pairs(it.x, it.W, it.b, k=k, proposer=Proposer(it.W, product), absolute=absolute)
    assert pairs.indptr.diff().tolist() == [min(k, d_dict)] * n
    assert_same_choice(mask_of(pairs), reference.keep_largest(it.pre.abs() if absolute else it.pre, k), product)
    torch.testing.assert_close(pre, it.pre[pairs.row, pairs.feature], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [-9.0, 0.0, 0.8, 9.0])
def test_pairs_above_are_all_that_pass_their_bound(shape: tuple[int, int, int, int], product: Product, level: float) -> None:
    n, d_in, d_dict, _ = shape
    it = Problem(n, d_in, d_dict)
    bound = level + 0.1 * torch.randn(d_dict, generator=torch.Generator().manual_seed(5))
    pairs, pre = pairs_above(it.x, it.W, it.b, bound=bound, proposer=Proposer(it.W, product))
    assert torch.equal(mask_of(pairs), reference.keep_above(it.pre, bound))
    torch.testing.assert_close(pre, it.pre[pairs.row, pairs.feature], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("guess", [0.0, 0.01, 1.5, 50.0])
def test_batch_top_k_is_the_largest_of_the_batch_whatever_the_guess(shape: tuple[int, int, int, int], product: Product, guess: float) -> None:
    n, d_in, d_dict, k = shape
    it = Problem(n, d_in, d_dict)
    pairs, pre, threshold = batch_top_k(it.x, it.W, it.b, k=k, proposer=Proposer(it.W, product), guess=guess)
    wanted = reference.keep_batch_largest(it.pre, k)
    assert torch.equal(mask_of(pairs), wanted)
    torch.testing.assert_close(pre, it.pre[pairs.row, pairs.feature], rtol=1e-5, atol=1e-5)
    assert threshold == pytest.approx(float(it.pre[wanted].min()) if wanted.any() else 0.0, abs=1e-5)


@pytest.mark.parametrize("product", PRODUCTS)
def test_of_equal_numbers_as_many_are_chosen_as_wanted(product: Product) -> None:
    x, W, b = torch.ones(6, 8), torch.full((16, 8), 0.25), torch.zeros(16)
    W[3] = 0.5
    pairs, pre, threshold = batch_top_k(x, W, b, k=3, proposer=Proposer(W, product), guess=1.9)
    assert (len(pairs.feature), threshold, pairs.rows, int(pairs.indptr[-1])) == (18, 2.0, 6, 18)
    assert int((pairs.feature == 3).sum()) == 6, "the larger ones are all among them"
    assert sorted(pre.tolist()) == [2.0] * 12 + [4.0] * 6


def test_a_batch_without_positive_pre_activations_has_no_pairs() -> None:
    it = Problem(6, 8, 16)
    pairs, pre, threshold = batch_top_k(it.x, it.W, it.b - 100, k=3, proposer=Proposer(it.W, "float32"), guess=0.5)
    assert (len(pairs.feature), len(pre), threshold, pairs.rows) == (0, 0, 0.0, 6)
    assert torch.equal(decode(pairs, pre, it.table), torch.zeros(6, 8))
    assert torch.equal(feature_sums(pairs, pre, it.x), torch.zeros(16, 8))
    assert len(row_dots(pairs, it.x, it.table)) == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [-9.0, 0.8])
@pytest.mark.parametrize("product", ["float32", "int8"])
def test_sums_over_pairs_are_products_with_the_dense_matrix(shape: tuple[int, int, int, int], level: float, product: Product) -> None:
    n, d_in, d_dict, _ = shape
    it = Problem(n, d_in, d_dict)
    pairs, _ = pairs_above(it.x, it.W, it.b, bound=torch.full((d_dict,), level), proposer=Proposer(it.W, product))
    values = torch.randn(len(pairs.feature), generator=torch.Generator().manual_seed(3))
    dense = pairs.dense(values)
    torch.testing.assert_close(decode(pairs, values, it.table), dense @ it.table, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(feature_sums(pairs, values, it.x), dense.T @ it.x, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(row_dots(pairs, it.x, it.table), (it.x @ it.table.T)[pairs.row, pairs.feature], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("product", ["float32", "int8"])
def test_pairs_by_feature_are_the_same_pairs(product: Product) -> None:
    pairs = Pairs.of_rows(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([3, 1, 1, 0, 3]), rows=4, d_dict=5)
    assert pairs.indptr.tolist() == [0, 2, 2, 5, 5]
    order, row, offsets = pairs.by_feature
    assert (order.tolist(), row.tolist(), offsets.tolist()) == ([3, 1, 2, 0, 4], [2, 0, 2, 0, 2], [0, 1, 3, 3, 5, 5])


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_hidden(bad: float, product: Product) -> None:
    it = Problem(9, 16, 64)
    it.x[4, 3] = bad
    W = it.W.clone()
    W[7, 2] = float("nan")
    for chosen in (
        top_k_pairs(it.x, W, it.b, k=4, proposer=Proposer(W, product)),
        pairs_above(it.x, W, it.b, bound=torch.zeros(64), proposer=Proposer(W, product)),
    ):
        values = decode(chosen.pairs, chosen.pre, it.table)
        assert not bool(values.isfinite().any()), "feature 7 is not a number on any row"


@pytest.mark.parametrize("product", PRODUCTS)
def test_no_rows_have_no_pairs(product: Product) -> None:
    it = Problem(0, 8, 64)
    proposer = Proposer(it.W, product)
    for chosen in (
        top_k_pairs(it.x, it.W, it.b, k=4, proposer=proposer),
        pairs_above(it.x, it.W, it.b, bound=torch.zeros(64), proposer=proposer),
        batch_top_k(it.x, it.W, it.b, k=4, proposer=proposer, guess=0.0),
    ):
        assert (chosen.pairs.rows, len(chosen.pairs.feature), len(chosen.pre)) == (0, 0, 0)
        assert torch.equal(feature_sums(chosen.pairs, chosen.pre, it.x), torch.zeros(64, 8))


@pytest.mark.parametrize("product", ["float32", "int8"])
def test_what_does_not_fit_is_named_and_never_read_past_its_end(product: Product) -> None:
    it = Problem(6, 8, 64)
    proposer = Proposer(it.W, product)
    pairs, pre = top_k_pairs(it.x, it.W, it.b, k=4, proposer=proposer)
    wrong: list[Callable[[], object]] = [
        lambda: top_k_pairs(it.x, it.W, it.b[:-1], k=4, proposer=proposer),
        lambda: top_k_pairs(it.x, it.W[:32], it.b[:32], k=4, proposer=proposer),
        lambda: decode(pairs, pre, it.table[:-1]),
        lambda: decode(pairs, pre[:-1], it.table),
        lambda: row_dots(pairs, it.x[:-1], it.table),
        lambda: feature_sums(pairs, pre, it.x[:-1]),
        lambda: decode(Pairs(pairs.indptr, pairs.feature + 60, 64), pre, it.table),
        lambda: row_dots(Pairs(pairs.indptr, pairs.feature - 64, 64), it.x, it.table),
        lambda: feature_sums(Pairs(pairs.indptr, pairs.feature + (1 << 40), 64), pre, it.x),
        lambda: Pairs(pairs.indptr, pairs.feature.int(), 64),
        lambda: decode(pairs, pre.double(), it.table),
    ]
    for call in wrong:
        with pytest.raises((ShapeMismatch, IndexError, TypeError, RuntimeError, TypeCheckError)):
            call()
