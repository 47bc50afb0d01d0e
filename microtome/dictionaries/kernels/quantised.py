"""The encoder in int8, for the compiled kernels' product; the head of native_propose.c says how."""

import ctypes
from typing import final

import numpy as np
import torch
import torch.nn.functional as F

from microtome.dictionaries.kernels import native
from microtome.errors import ShapeMismatch
from microtome.shapes import Float, Tensor

_PANEL, _WIDEN = 16, 4
"""As in native_propose.c."""
_SAMPLE = 128
"""Rows that columns are measured on."""
_LARGEST = torch.finfo(torch.float32).max
_SMALL, _LARGE = 1e-15, 1e15


class _Table(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("d_dict", "d", "groups")),
        *((name, ctypes.c_void_p) for name in ("W", "balance", "weights", "start", "scale", "lift", "norm", "residual")),
    )


@final
class Quantised:
    """Encoder rows in int8 beside the fp32 ones they stand for."""

    def __init__(self, W_enc: Float[Tensor, "d_dict d_in"]) -> None:
        d_dict, d_in = W_enc.shape
        self._panels = -(-d_dict // _PANEL)
        groups = -(-d_in // (4 * _WIDEN)) * _WIDEN
        width = self._panels * _PANEL
        self._floats = torch.zeros(4, width)
        self._start = torch.zeros(width, dtype=torch.int32)
        self._weights = torch.zeros(self._panels * groups * _PANEL * 4, dtype=torch.int8)
        self._balance = torch.ones(d_in)
        self._encoder = W_enc
        scale, lift, norm, residual = (row.data_ptr() for row in self._floats)
        self.table = _Table(
            d_dict=d_dict,
            d=d_in,
            groups=groups,
            balance=self._balance.data_ptr(),
            weights=self._weights.data_ptr(),
            start=self._start.data_ptr(),
            scale=scale,
            lift=lift,
            norm=norm,
            residual=residual,
        )
        self._stale = True

    def refresh(self, W_enc: Float[Tensor, "d_dict d_in"]) -> None:
        """Follow the weights, when they are next needed; of another shape or number type they raise `ShapeMismatch`."""
        own, other = (self._encoder.shape, self._encoder.dtype), (W_enc.shape, W_enc.dtype)
        if own != other:
            do = "Make a proposer for each encoder."
            raise ShapeMismatch("the encoder is not the one that was quantised.", got=other, wanted=own, do=do)
        self._encoder = W_enc
        self._stale = True

    def fit(self, rows: Float[Tensor, "n d_in"]) -> None:
        """Quantise, if the weights have changed, with columns balanced for these rows; no rows leave it for later."""
        if not (self._stale and len(rows)):
            return
        encoder = self._encoder = self._encoder.contiguous()
        balance = (_column_sizes(rows) / _column_sizes(encoder)).sqrt()
        self._balance.copy_(torch.where(balance.isfinite() & (balance > 0), balance, 1.0))
        self.table.W = encoder.data_ptr()
        native.spread(lambda first, last: native.call("quantise", ctypes.byref(self.table), first, last), self._panels, grain=4)
        self._stale = False

    def base(self, bias: Float[Tensor, "d_dict"]) -> Float[Tensor, "padded"]:
        """What is added to a feature's score."""
        finite = torch.nan_to_num(bias, nan=_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)
        return F.pad(finite, (0, self._floats.shape[1] - len(bias))).add_(self._floats[1])


def _column_sizes(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """Norms of the columns of a sample of rows, up to a factor; not below a thousandth of their mean."""
    sample = rows[:: max(1, len(rows) // _SAMPLE)]
    # numpy: so few numbers are not worth waking torch's threads
    sizes = torch.from_numpy(np.einsum("nd,nd->d", sample.numpy(), sample.numpy())).sqrt_()
    if not _SMALL < float(sizes.max()) < _LARGE:  # squares beyond fp32: relative to the largest entry
        sizes = torch.linalg.vector_norm(sample / sample.abs().amax().clamp_min(1e-36), dim=0)
    return sizes.clamp_min(1e-3 * float(sizes.mean()))
