"""The crosscoder: one set of features over several sites at once, of one model or of several."""

from collections.abc import Mapping, Sequence
from typing import final

import torch

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.encoder import check_pooling, check_scale, checked_weights, encode_in_blocks, encoder_shape, summed
from microtome.dictionaries.nonlinearity import Nonlinearity
from microtome.errors import DictionaryInvalid, ShapeMismatch
from microtome.models import Site
from microtome.shapes import Float, Tensor


@final
class Crosscoder(Dictionary):
    """Reads and writes the concatenation of several sites (Lindsey et al. 2024, "Sparse crosscoders").

    A row is [x_1 | x_2 | …] with `widths` columns a part and z = [s_1 x_1 | s_2 x_2 | …], s = `input_scales`:

        pre = W_enc z + b_enc        a = nonlinearity(pre)        z_hat = W_dec^T a + b_dec

    `decode` and `directions` give all parts side by side, or with `write=` the part of one site. A site may occur twice, when two models are read:
    then ask for the part by its number (`part=`). `W_enc` and `W_dec` are `[d_dict, sum of widths]`.
    """

    def __init__(
        self,
        *,
        reads: tuple[Site, ...],
        widths: tuple[int, ...],
        nonlinearity: Nonlinearity,
        weights: Mapping[str, Tensor],
        input_scales: tuple[float, ...],
        pooling: str = "token",
    ) -> None:
        self.d_dict, self.d_in = encoder_shape(weights, "a crosscoder")
        self.d_out = self.d_in
        if not reads or not len(reads) == len(widths) == len(input_scales) or sum(widths) != self.d_in:
            got = f"{len(reads)} sites, widths {widths}, {len(input_scales)} scales, {self.d_in} columns"
            do = "Give every part its site, width and scale."
            raise DictionaryInvalid("the parts of a crosscoder do not add up.", got=got, wanted="widths that sum to d_in", do=do)
        matrix, features = (self.d_dict, self.d_in), (self.d_dict,)
        shapes = {"W_enc": matrix, "W_dec": matrix, "b_enc": features, "b_dec": (self.d_in,), **dict.fromkeys(nonlinearity.tensors, features)}
        held = checked_weights(weights, shapes, kind="a crosscoder")
        for scale in input_scales:
            check_scale(scale, "input_scales")
        check_pooling(pooling)
        self.reads = reads[0]
        self.writes = reads
        self.widths = widths
        self.input_scales = input_scales
        self.nonlinearity = nonlinearity
        self.pooling = pooling
        self.W_enc: Float[Tensor, "d_dict d_in"] = held["W_enc"]
        self.W_dec: Float[Tensor, "d_dict d_out"] = held["W_dec"]
        self.b_enc: Float[Tensor, "d_dict"] = held["b_enc"]
        self.b_dec: Float[Tensor, "d_out"] = held["b_dec"]
        self.tensors: dict[str, Tensor] = {name: held[name] for name in nonlinearity.tensors}
        """The nonlinearity's own weights, one number a feature."""
        each = [torch.full((width,), scale) for width, scale in zip(widths, input_scales, strict=True)]
        self.scale: Float[Tensor, "d_in"] = torch.cat(each).to(self.W_enc)

    @property
    def inputs(self) -> tuple[Site, ...]:
        return self.writes

    def columns(self, *, write: Site | None = None, part: int | None = None) -> slice:
        """The columns of a part, of the (first) part at a site, or of all."""
        if write is None and part is None:
            return slice(0, self.d_in)
        place = self.written(write) if part is None else part
        start = sum(self.widths[:place])
        return slice(start, start + self.widths[place])

    def rows(self, parts: Sequence[Float[Tensor, "n _"]]) -> Float[Tensor, "n d_in"]:
        """The activations of the parts side by side; `ShapeMismatch` where they do not fit."""
        if tuple(part.shape[1] for part in parts) != self.widths:
            got = tuple(part.shape[1] for part in parts)
            raise ShapeMismatch(
                "the parts do not fit the crosscoder.", got=got, wanted=self.widths, do="Give one matrix for each site that it reads."
            )
        return torch.cat(list(parts), 1)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        """See `Dictionary.encode`; in blocks of rows."""
        self.fits(x)
        return encode_in_blocks(x, self.weights(), nonlinearity=self.nonlinearity, scaled=lambda rows: rows * self.scale)

    @torch.no_grad()
    def decode(self, codes: SparseCodes, *, write: Site | None = None, part: int | None = None) -> Float[Tensor, "n d_out"]:
        return self._unscaled(summed(codes, self.W_dec).add_(self.b_dec))[:, self.columns(write=write, part=part)]

    def directions(self, *, write: Site | None = None, part: int | None = None) -> Float[Tensor, "d_dict d_out"]:
        return self._unscaled(self.W_dec)[:, self.columns(write=write, part=part)]

    def encoder_directions(self) -> Float[Tensor, "d_dict d_in"]:
        return self.W_enc * self.scale

    def norms(self) -> Float[Tensor, "d_dict parts"]:
        """The norm of each feature's decoder in each part, in scaled units: where a feature lives, and which model has it."""
        return torch.stack([part.norm(dim=1) for part in self.W_dec.split(list(self.widths), dim=1)], 1)

    def weights(self) -> dict[str, Tensor]:
        """All tensors by their stored names."""
        return {"W_enc": self.W_enc, "W_dec": self.W_dec, "b_enc": self.b_enc, "b_dec": self.b_dec, **self.tensors}

    def with_weights(self, weights: Mapping[str, Tensor], *, nonlinearity: Nonlinearity | None = None) -> "Crosscoder":
        """The same kind of dictionary at the same sites with other weights."""
        return Crosscoder(
            reads=self.writes,
            widths=self.widths,
            nonlinearity=nonlinearity or self.nonlinearity,
            weights=weights,
            input_scales=self.input_scales,
            pooling=self.pooling,
        )

    def to(self, device: torch.device | str) -> "Crosscoder":
        """The same dictionary with its weights on another device."""
        return self.with_weights({name: weight.to(device) for name, weight in self.weights().items()})

    def _unscaled(self, z: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_out"]:
        return z / self.scale
