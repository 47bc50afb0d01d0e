"""Nonlinearities: how pre-activations become sparse codes. A value of a dictionary, stored by name in its file."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from microtome.config import from_dict, to_dict
from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.kernels.topk import top_k
from microtome.errors import ConfigError
from microtome.registry import Registry
from microtome.shapes import Float, Tensor


@runtime_checkable
class Nonlinearity(Protocol):
    """Turns a block of pre-activations into codes."""

    def __call__(self, pre: Float[Tensor, "n d_dict"]) -> SparseCodes: ...


NONLINEARITIES: Registry[type[Nonlinearity]] = Registry("nonlinearity")


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The `k` largest pre-activations of each token, negative ones set to 0 (Makhzani & Frey 2013; Gao et al. 2024, eq. 3)."""

    k: int
    """Features kept a token."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError("k must be at least 1.", got=self.k, wanted="1 or more", do="Give the number of features kept a token.")

    def __call__(self, pre: Float[Tensor, "n d_dict"]) -> SparseCodes:
        indices = top_k(pre, self.k)
        return SparseCodes(indices, pre.gather(1, indices).relu(), pre.shape[1])


NONLINEARITIES.register("topk")(TopK)


def nonlinearity_to_json(value: Nonlinearity) -> dict[str, object]:
    """`{"name": …, **fields}`, the form stored in a dictionary's file."""
    name = next(name for name in NONLINEARITIES if NONLINEARITIES.get(name) is type(value))
    return {"name": name, **to_dict(value)}


def nonlinearity_from_json(stored: dict[str, object]) -> Nonlinearity:
    """The inverse of `nonlinearity_to_json`; unknown names and fields are named errors."""
    name = str(stored.get("name"))
    return from_dict(NONLINEARITIES.get(name), {key: value for key, value in stored.items() if key != "name"}, where=f"nonlinearity {name}")
