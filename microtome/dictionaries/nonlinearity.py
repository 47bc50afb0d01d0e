"""Nonlinearities: how pre-activations become sparse codes. A value of a dictionary, stored by name in its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch

from microtome.config import from_dict, to_dict
from microtome.dictionaries.codes import Csr, SparseCodes
from microtome.dictionaries.kernels.topk import top_k
from microtome.errors import ConfigError
from microtome.registry import Registry
from microtome.shapes import Bool, Float, Tensor


@runtime_checkable
class Nonlinearity(Protocol):
    """Turns a block of pre-activations into codes; what a row becomes must not depend on its neighbours.

    `weights` are the dictionary's tensors of one number a feature: `b_enc`, already inside `pre`, and those named in `tensors`.
    """

    tensors: ClassVar[tuple[str, ...]]
    """Weights `[d_dict]` that a dictionary with this nonlinearity has beside `b_enc`."""

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes: ...


NONLINEARITIES: Registry[type[Nonlinearity]] = Registry("nonlinearity")


@dataclass(frozen=True, kw_only=True)
class ReLU:
    """a = max(pre, 0): every positive pre-activation (Bricken et al. 2023)."""

    tensors: ClassVar[tuple[str, ...]] = ()

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes:
        return where_active(pre, pre > 0)


@dataclass(frozen=True, kw_only=True)
class JumpReLU:
    """a = pre where pre > threshold, 0 elsewhere; `threshold [d_dict]` is a weight (Rajamanoharan et al. 2024, "Jumping ahead", eq. 4)."""

    tensors: ClassVar[tuple[str, ...]] = ("threshold",)

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes:
        return where_active(pre, pre > weights["threshold"])


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The `k` largest pre-activations of each row, negative ones set to 0 (Makhzani & Frey 2013; Gao et al. 2024, eq. 3)."""

    k: int
    """Features kept a row."""

    tensors: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes:
        indices = top_k(pre, self.k)
        return SparseCodes(indices, pre.gather(1, indices).relu(), pre.shape[1])


@dataclass(frozen=True, kw_only=True)
class AbsTopK:
    """The `k` pre-activations of each row that are largest by size, with their signs: activations may be negative."""

    k: int
    """Features kept a row."""

    tensors: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes:
        indices = top_k(pre.abs(), self.k)
        return SparseCodes(indices, pre.gather(1, indices), pre.shape[1])


@dataclass(frozen=True, kw_only=True)
class BatchTopK:
    """Trained with the k n largest of n rows (Bussmann et al. 2024); encodes with a threshold, so that a row does not depend on its neighbours.

    a = pre where pre > threshold, and never a negative one. Before training has found the threshold (None), the `k` largest of each row.
    """

    k: int
    """Features kept a row on average."""
    threshold: float | None = None
    """One for all features, in the units of the pre-activations."""

    tensors: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes:
        if self.threshold is None:
            return TopK(k=self.k)(pre, weights)
        return where_active(pre, pre > max(self.threshold, 0.0))


@dataclass(frozen=True, kw_only=True)
class Gated:
    """Which features are active and how much are two questions (Rajamanoharan et al. 2024, "gated sparse autoencoders", eq. 6 to 8).

    With W_enc z = pre - b_enc:  a = max(exp(r_mag) (pre - b_enc) + b_mag, 0) where pre > 0, 0 elsewhere. `b_enc` is the gate's bias.
    """

    tensors: ClassVar[tuple[str, ...]] = ("r_mag", "b_mag")

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes:
        row, feature = (pre > 0).nonzero(as_tuple=True)
        product = pre[row, feature] - weights["b_enc"][feature]
        values = (weights["r_mag"][feature].exp() * product + weights["b_mag"][feature]).relu()
        return SparseCodes.from_csr(_csr(row, feature, values, rows=len(pre)), d_dict=pre.shape[1])


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The largest pre-activation of each row has the value 1, all others 0: a row belongs to one feature, as in k-means."""

    tensors: ClassVar[tuple[str, ...]] = ()

    def __call__(self, pre: Float[Tensor, "n d_dict"], weights: Mapping[str, Tensor]) -> SparseCodes:
        indices = pre.argmax(1, keepdim=True) if len(pre) else torch.zeros(0, 1, dtype=torch.int64, device=pre.device)
        return SparseCodes(indices, torch.ones_like(indices, dtype=pre.dtype), pre.shape[1])


NONLINEARITIES.register("relu")(ReLU)
NONLINEARITIES.register("jumprelu")(JumpReLU)
NONLINEARITIES.register("topk")(TopK)
NONLINEARITIES.register("abstopk")(AbsTopK)
NONLINEARITIES.register("batchtopk")(BatchTopK)
NONLINEARITIES.register("gated")(Gated)
NONLINEARITIES.register("nearest")(Nearest)


def where_active(pre: Float[Tensor, "n d_dict"], active: Bool[Tensor, "n d_dict"]) -> SparseCodes:
    """Codes of the pre-activations at the places that are True, padded to the longest row."""
    row, feature = active.nonzero(as_tuple=True)
    return SparseCodes.from_csr(_csr(row, feature, pre[row, feature], rows=len(pre)), d_dict=pre.shape[1])


def nonlinearity_name(value: Nonlinearity) -> str:
    """The name that a nonlinearity is registered under."""
    return next(name for name in NONLINEARITIES if NONLINEARITIES.get(name) is type(value))


def nonlinearity_to_json(value: Nonlinearity) -> dict[str, object]:
    """`{"name": …, **fields}`, the form stored in a dictionary's file."""
    return {"name": nonlinearity_name(value), **to_dict(value)}


def nonlinearity_from_json(stored: Mapping[str, object]) -> Nonlinearity:
    """The inverse of `nonlinearity_to_json`; unknown names and fields are named errors."""
    name = str(stored.get("name"))
    return from_dict(NONLINEARITIES.get(name), {key: value for key, value in stored.items() if key != "name"}, where=f"nonlinearity {name}")


def check_k(k: int) -> None:
    """Raise `ConfigError` unless at least one feature is kept."""
    if k < 1:
        raise ConfigError("k must be at least 1.", got=k, wanted="1 or more", do="Give the number of features kept a row.")


def _csr(row: Tensor, feature: Tensor, values: Tensor, *, rows: int) -> Csr:
    indptr = torch.zeros(rows + 1, dtype=torch.int64, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=rows), 0, out=indptr[1:])
    return Csr(indptr=indptr, indices=feature, values=values)
