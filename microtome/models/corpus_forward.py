"""Forwards over whole corpora, float32 on an x86 processor, with faster forms of what takes most of their time.

- Products by weights: torch sends them to MKL; oneDNN, which ships beside it in the same package, is faster at the sizes of a batch of tokens.
  (Weights copied into its own order beforehand would save another thirtieth, and take the model's memory again.)
- Causal attention: `attention.py`.

Values differ from Hugging Face's in rounding alone. `MICROTOME_NATIVE=0` turns both off.
"""

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from microtome.compiled import is_wanted
from microtome.models import attention
from microtome.shapes import Float, Tensor

_ROWS = 64
"""Rows of a product are filled up to a multiple of this: oneDNN keeps code and buffers for each number of rows that it meets. With fewer rows than
this, arranging the weights takes longer than it saves."""


def faster_forward(device: torch.device) -> AbstractContextManager[object]:
    """Within the block, forwards of this thread on `device` take the faster forms, where there are any.

    To read a corpus; not for values that must be Hugging Face's to the bit.
    """
    wanted = device.type == "cpu" and is_wanted() and torch.backends.mkldnn.enabled
    return _Faster() if wanted and _has_both_libraries() else nullcontext()


@final
class _Faster(TorchFunctionMode):
    """Within its block, what this thread asks torch's functions for is done another way where that is faster."""

    def __torch_function__(  # noqa: PLR0917  torch's
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is F.linear and not named and _is_plain_product(*args):
            return _product(*args)
        if func is F.scaled_dot_product_attention and len(args) == 3 and _is_plain_attention(*args, **named):
            return attention.causal_attention(*args, scale=named.get("scale"))
        return func(*args, **named)


def _product(x: Float[Tensor, "*rows in"], weight: Float[Tensor, "out in"], bias: Float[Tensor, "out"] | None = None) -> Float[Tensor, "*rows out"]:
    rows = x.reshape(-1, x.shape[-1])
    n = len(rows)
    if n % _ROWS:
        rows = F.pad(rows, (0, 0, 0, -n % _ROWS))
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")[:n].view(*x.shape[:-1], len(weight))


def _is_plain_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether torch would take it as it stands: what does not fit is left to torch's own errors."""
    if not _are_plain(*(each for each in (x, weight, bias) if each is not None)) or weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        return False
    return x.numel() >= _ROWS * x.shape[-1] > 0 and (bias is None or (bias.shape == weight.shape[:1] and bias.is_contiguous()))


def _is_plain_attention(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False, enable_gqa: bool = False, **others: Any) -> bool:
    """Whether it is causal, of as many queries as keys, and nothing else (a mask, dropout)."""
    if not is_causal or _asks_for_more(others) or not _are_plain(q, k, v):
        return False
    if not q.ndim == k.ndim == v.ndim == 4 or 0 in (q.numel(), k.numel()):
        return False
    heads_fit = q.shape[1] == k.shape[1] or (enable_gqa and q.shape[1] % k.shape[1] == 0)
    shapes_fit = heads_fit and k.shape == v.shape and (q.shape[0], *q.shape[2:]) == (k.shape[0], *k.shape[2:])
    return shapes_fit and all(x.stride(-1) == 1 for x in (q, k, v)) and q.shape[-1] % attention.WIDTHS == 0 and attention.LIBRARY.available()


def _asks_for_more(named: Mapping[str, Any]) -> bool:
    return any(not (value is None or (name == "dropout_p" and value == 0)) for name, value in named.items() if name != "scale")


def _are_plain(*tensors: Tensor) -> bool:
    """Whether they are float32 in this machine's memory as they look, and no derivative, other number type or compiled form is wanted."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    if torch.autograd.forward_ad._current_level >= 0:
        return False
    return all(type(each) in {Tensor, nn.Parameter} and each.dtype == torch.float32 and _is_dense(each) for each in tensors)


def _is_dense(x: Tensor) -> bool:
    return not is_functorch_wrapped_tensor(x) and not x.is_nested and x.device.type == "cpu" and x.layout == torch.strided and not x.is_neg()


@functools.cache
def _has_both_libraries() -> bool:
    """Whether this torch has MKL and oneDNN: elsewhere its own choice is the better one, or the only one."""
    return torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
