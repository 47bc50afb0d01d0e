"""The interface of every dictionary: reads one site, writes one or more, and codes what it reads in a few active features."""

from abc import ABC, abstractmethod

import torch

from microtome.dictionaries.codes import SparseCodes
from microtome.errors import FeatureNotFound, ShapeMismatch, SiteNotFound
from microtome.models import Site
from microtome.shapes import Float, Tensor


class Dictionary(ABC):
    """A set of features over activations. Inputs, outputs and directions are in the model's own units.

    A subclass sets the attributes and defines the five abstract methods; any scaling it does is its own affair.
    For every dictionary and each of its writes `decode(encode(x)) = sum_i value_i * direction(i) + decode(nothing)`.
    """

    reads: Site
    """The site read, the first where there are several (`inputs`)."""
    writes: tuple[Site, ...]
    pooling: str
    """What a row is: a `token`, the mean of a `turn` or a `span`, the `last` token of a text, or the `residual` of a token less its turn's mean."""
    d_in: int
    d_out: int
    d_dict: int

    @abstractmethod
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        """The active features of each row; a width other than `d_in` raises `ShapeMismatch`."""

    @abstractmethod
    def decode(self, codes: SparseCodes, *, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        """What the codes stand for at `write` (default: the first site written), in fp32."""

    @abstractmethod
    def directions(self, *, write: Site | None = None) -> Float[Tensor, "d_dict d_out"]:
        """What one unit of each feature adds at `write` (default: the first site written)."""

    @abstractmethod
    def encoder_directions(self) -> Float[Tensor, "d_dict d_in"]:
        """The gradient of each feature's pre-activation with respect to what is read."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Dictionary":
        """The same dictionary with its weights on another device."""

    @property
    def inputs(self) -> tuple[Site, ...]:
        """The sites read; the columns of a row are theirs side by side."""
        return (self.reads,)

    def direction(self, feature: int, *, write: Site | None = None) -> Float[Tensor, "d_out"]:
        """One row of `directions`; a number outside the dictionary raises `FeatureNotFound`."""
        return self.directions(write=write)[self._known(feature)]

    def encoder_direction(self, feature: int) -> Float[Tensor, "d_in"]:
        """One row of `encoder_directions`."""
        return self.encoder_directions()[self._known(feature)]

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "n d_in"], *, codes: SparseCodes | None = None, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        """`decode(encode(x))`, and what goes past the features where a dictionary has such a path. `codes`, where known, spare the encoding."""
        return self.decode(self.encode(x) if codes is None else codes, write=write)

    def fits(self, x: Tensor) -> None:
        """Raise `ShapeMismatch` unless the rows of `x` are `d_in` wide."""
        if x.ndim != 2 or x.shape[1] != self.d_in:
            do = f"Read the activations at {self.reads} of the model that the dictionary was made for."
            raise ShapeMismatch("the rows do not fit the dictionary.", got=tuple(x.shape), wanted=f"(n, {self.d_in})", do=do)

    def written(self, write: Site | None) -> int:
        """Which of `writes` is meant; None means the first."""
        if write is None:
            return 0
        if write not in self.writes:
            wanted = ", ".join(map(str, self.writes))
            raise SiteNotFound(f"the dictionary does not write {write}.", got=write, wanted=wanted, do="Ask for a site that it writes.")
        return self.writes.index(write)

    def _known(self, feature: int) -> int:
        if not 0 <= feature < self.d_dict:
            raise FeatureNotFound(f"there is no feature {feature}.", got=feature, wanted=f"0 to {self.d_dict - 1}", do="Give a number in that range.")
        return feature
