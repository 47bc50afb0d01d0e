"""The kernels that training is made of, sent to the backend of the tensors' device here and nowhere else.

With rows x [n, d_in] (centred, in scaled units) and pre = x W_enc^T + b_enc, three of them choose (row, feature) pairs, and three compute with them;
the work of the latter is proportional to the number of pairs. `reference` has each in dense torch.
"""

from importlib.util import find_spec

import torch

from microtome.dictionaries.kernels import native, native_ops, torch_ops
from microtome.dictionaries.kernels.backend import Backend
from microtome.dictionaries.kernels.pairs import BatchChosen, Chosen, Pairs
from microtome.dictionaries.kernels.proposer import Proposer
from microtome.dictionaries.kernels.update import AdamStep, Moments
from microtome.errors import ShapeMismatch
from microtome.shapes import Float, Tensor

_DO = "Give the tensors of one dictionary and one batch."
_SAMPLE = 64
"""Rows that a first guess of a batch's threshold is taken from."""


def top_k_pairs(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_dict d_in"],
    b_enc: Float[Tensor, "d_dict"],
    *,
    k: int,
    proposer: Proposer,
    absolute: bool = False,
) -> Chosen:
    """The k largest pre-activations of every row (by size where `absolute`; they keep their sign): exactly min(k, d_dict) pairs a row."""
    _fit(centred, W_enc, b_enc=b_enc, proposer=proposer)
    return _backend(centred, W_enc, b_enc).top_k_pairs(centred, W_enc, b_enc, k=k, proposer=proposer, absolute=absolute)


def pairs_above(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_dict d_in"],
    b_enc: Float[Tensor, "d_dict"],
    *,
    bound: Float[Tensor, "d_dict"],
    proposer: Proposer,
    sure: bool = True,
) -> Chosen:
    """Every pair whose pre-activation is above its feature's bound (or not a number, so that the loss shows it); rows may have none.

    Unless `sure`, a backend may miss a few that are above it by less than its product's rounding, which is faster.
    """
    _fit(centred, W_enc, b_enc=b_enc, proposer=proposer)
    return _backend(centred, W_enc, b_enc, bound).pairs_above(centred, W_enc, b_enc, bound=bound, proposer=proposer, sure=sure)


def batch_top_k(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_dict d_in"],
    b_enc: Float[Tensor, "d_dict"],
    *,
    k: int,
    proposer: Proposer,
    guess: float,
) -> BatchChosen:
    """The n k largest positive pre-activations of the whole batch (all positive ones where there are fewer).

    `guess`, the threshold of the batch before (0: none), only saves time: pairs above somewhat less are counted, and it falls until enough are found.
    """
    wanted = min(k, len(W_enc)) * len(centred)
    low = 0.95 * (guess if guess > 0 else _sampled_threshold(centred, W_enc, b_enc, k=k))
    while True:
        found = pairs_above(centred, W_enc, b_enc, bound=torch.full_like(b_enc, max(low, 0.0)), proposer=proposer, sure=low <= 0)
        if len(found.pre) >= wanted or low <= 0:
            break
        low = 0.0 if low < 1e-3 * guess or low < 1e-6 else 0.5 * low
    if len(found.pre) > wanted > 0:
        return _backend(found.pre).largest(found, wanted)
    return BatchChosen(found.pairs, found.pre, float(found.pre.min()) if len(found.pre) else 0.0)


def _sampled_threshold(centred: Float[Tensor, "n d_in"], W_enc: Float[Tensor, "d_dict d_in"], b_enc: Float[Tensor, "d_dict"], *, k: int) -> float:
    sample = centred[:: max(1, len(centred) // _SAMPLE)]
    pre = (sample @ W_enc.T + b_enc).flatten()
    return float(pre.topk(min(k * len(sample), len(pre)), sorted=False).values.min()) if len(pre) else 0.0


def decode(pairs: Pairs, values: Float[Tensor, "nnz"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]:
    """For every row, the sum over its pairs of value times the feature's row of `table`; zero for a row without pairs."""
    _meet(pairs, len(values), n_features=len(table))
    return _backend(values, table).decode(pairs, values, table)


def row_dots(pairs: Pairs, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "nnz"]:
    """For every pair, <rows[row], table[feature]>: the gradient of `decode` for the values, and the pre-activations without bias."""
    _meet(pairs, len(pairs.feature), n_features=len(table), n_rows=len(rows), widths=(rows.shape[1], table.shape[1]))
    return _backend(rows, table).row_dots(pairs, rows, table)


def feature_sums(pairs: Pairs, weight: Float[Tensor, "nnz"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "d_dict d"]:
    """For every feature, the sum over its pairs of weight times the row: the gradient of `decode` for the table; zero for a feature without pairs."""
    _meet(pairs, len(weight), n_rows=len(rows))
    return _backend(weight, rows).feature_sums(pairs, weight, rows)


def adam(weight: Tensor, gradient: Tensor, *, moments: Moments, step: AdamStep) -> None:
    """One step of Adam in place, on `weight` and `moments`; the gradient may be overwritten. See the head of `update`."""
    if not weight.shape == gradient.shape == moments.exp_avg.shape == moments.exp_avg_sq.shape:
        got = f"weights {tuple(weight.shape)}, gradient {tuple(gradient.shape)}, moments {tuple(moments.exp_avg.shape)}"
        raise ShapeMismatch("the gradient is not that of the weights.", got=got, wanted="one shape", do=_DO)
    _backend(weight, gradient, *moments).adam(weight, gradient, moments=moments, step=step)


def _fit(centred: Tensor, W_enc: Tensor, *, b_enc: Tensor, proposer: Proposer) -> None:
    """Raise `ShapeMismatch` for sizes with which a kernel would read beside its tensors."""
    d_dict, d_in = W_enc.shape
    if centred.shape[1] != d_in or len(b_enc) != d_dict or proposer.table.shape != W_enc.shape:
        got = f"rows {tuple(centred.shape)}, encoder {tuple(W_enc.shape)}, {len(b_enc)} biases, proposer {tuple(proposer.table.shape)}"
        raise ShapeMismatch("the rows, the encoder and its proposer do not fit.", got=got, wanted="one width, one d_dict", do=_DO)


def _meet(pairs: Pairs, entries: int, *, n_features: int | None = None, n_rows: int | None = None, widths: tuple[int, int] = (0, 0)) -> None:
    """The same for what is computed with pairs."""
    own, found = (len(pairs.feature), pairs.d_dict, pairs.rows), (entries, n_features, n_rows)
    if widths[0] != widths[1] or any(other not in (mine, None) for mine, other in zip(own, found, strict=True)):
        got = f"(pairs, features, rows) {found}, widths {widths}"
        raise ShapeMismatch("the tensors do not fit the pairs.", got=got, wanted=f"{own}", do=_DO)


def _backend(*tensors: Tensor) -> Backend:
    """Triton's kernels on a CUDA device where Triton is installed, those in C for fp32 on a CPU that they are for, else plain torch."""
    tensor = tensors[0]
    if tensor.is_cuda and tensor.dtype != torch.float64 and find_spec("triton") is not None:
        from microtome.dictionaries.kernels import cuda

        return cuda
    if all(each.device.type == "cpu" and each.dtype == torch.float32 for each in tensors) and native.available():
        return native_ops
    return torch_ops
