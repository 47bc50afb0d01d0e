"""What the dictionaries share: an encoder that never holds a whole [n, d_dict] matrix, a sparse decoder, and the check of their weights."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.nonlinearity import Nonlinearity
from microtome.errors import DictionaryInvalid
from microtome.shapes import Float, Tensor

_BLOCK_VALUES = 1 << 23
"""Pre-activations held at once while encoding: 32 MB of fp32."""
POOLINGS = ("token", "turn", "span", "last", "residual")
"""What a row of a dictionary can be: a token, the mean of a turn's or a span's tokens, a text's last token, a token less the mean of its turn."""
_CHECK = "Check the file's origin, or train the dictionary again."


def encode_in_blocks(
    x: Float[Tensor, "n d_in"],
    weights: Mapping[str, Tensor],
    *,
    nonlinearity: Nonlinearity,
    scaled: Callable[[Float[Tensor, "b d_in"]], Float[Tensor, "b d_in"]],
) -> SparseCodes:
    """nonlinearity(W_enc scaled(x) + b_enc), a block of rows after the other, in the number type of `W_enc`."""
    W_enc, b_enc = weights["W_enc"], weights["b_enc"]
    per_feature = {name: weights[name] for name in ("b_enc", *nonlinearity.tensors)}
    blocks = blocks_of(x, len(W_enc))
    return joined([nonlinearity(F.linear(scaled(rows.to(W_enc.dtype)), W_enc, b_enc), per_feature) for rows in blocks])


def blocks_of(x: Float[Tensor, "n d_in"], d_dict: int) -> tuple[Tensor, ...]:
    """The rows in blocks whose pre-activations stay small; one empty block where there are no rows."""
    return x.split(max(1, _BLOCK_VALUES // d_dict))


def joined(parts: list[SparseCodes]) -> SparseCodes:
    """The codes of several blocks of rows as one, padded to the widest."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.indices.shape[1] for part in parts)
    indices = torch.cat([F.pad(part.indices, (0, width - part.indices.shape[1])) for part in parts])
    values = torch.cat([F.pad(part.values, (0, width - part.values.shape[1])) for part in parts])
    return SparseCodes(indices, values, parts[0].d_dict)


def summed(codes: SparseCodes, table: Float[Tensor, "rows d"]) -> Float[Tensor, "n d"]:
    """For every row of codes, the sum of value times the feature's row of `table`: work proportional to the active features."""
    return F.embedding_bag(codes.indices, table, per_sample_weights=codes.values.to(table.dtype), mode="sum")


def checked_weights(
    weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], *, kind: str, optional: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The weights in fp32 (fp64 stays), if their names and shapes are those wanted and every number is finite; else `DictionaryInvalid`."""
    required = set(shapes) - set(optional)
    if not required <= set(weights) <= set(shapes):
        wanted = ", ".join(sorted(required)) + (f", and perhaps {', '.join(optional)}" if optional else "")
        do = "Train the dictionary again, or convert it from its own format."
        raise DictionaryInvalid(f"the tensors are not those of {kind}.", got=", ".join(sorted(weights)), wanted=wanted, do=do)
    for name, weight in weights.items():
        if tuple(weight.shape) != shapes[name]:
            do = "A feature is a row of W_enc and of W_dec; transpose a foreign file."
            raise DictionaryInvalid(f"{name} has the wrong shape.", got=tuple(weight.shape), wanted=shapes[name], do=do)
        if not weight.is_floating_point():
            raise DictionaryInvalid(f"{name} does not hold real numbers.", got=weight.dtype, wanted="float32", do=_CHECK)
        if weight.device.type != "meta" and not bool(weight.isfinite().all()):
            bad = int((~weight.isfinite()).sum())
            raise DictionaryInvalid(f"{name} holds values that are not finite.", got=f"{bad} of them", wanted="none", do="Train it again.")
    return {name: weight if weight.dtype == torch.float64 else weight.float() for name, weight in weights.items()}


def encoder_shape(weights: Mapping[str, Tensor], kind: str) -> tuple[int, int]:
    """(d_dict, d_in) of the encoder; `DictionaryInvalid` where there is none."""
    W_enc = weights.get("W_enc")
    if W_enc is None:
        wanted = "W_enc and its companions"
        raise DictionaryInvalid(f"the tensors are not those of {kind}.", got=", ".join(sorted(weights)) or "none", wanted=wanted, do=_CHECK)
    if W_enc.ndim != 2:
        raise DictionaryInvalid("W_enc is not a matrix.", got=tuple(W_enc.shape), wanted="(d_dict, d_in)", do=_CHECK)
    if not W_enc.numel():
        raise DictionaryInvalid("there are no features.", got=tuple(W_enc.shape), wanted="at least one, of at least one column", do=_CHECK)
    return W_enc.shape[0], W_enc.shape[1]


def check_scale(scale: float, name: str) -> None:
    """Raise `DictionaryInvalid` unless a scale is a positive, finite number."""
    if not 0 < scale < float("inf"):
        raise DictionaryInvalid(f"{name} is not a positive number.", got=scale, wanted="> 0", do=_CHECK)


def check_pooling(pooling: str) -> None:
    """Raise `DictionaryInvalid` unless a row is something that can be pooled."""
    if pooling not in POOLINGS:
        raise DictionaryInvalid(f'no pooling is called "{pooling}".', got=pooling, wanted=", ".join(POOLINGS), do=_CHECK)
