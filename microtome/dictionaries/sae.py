"""The sparse autoencoder: reads and writes one site."""

from typing import final

import torch
import torch.nn.functional as F

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.nonlinearity import Nonlinearity
from microtome.errors import DictionaryInvalid
from microtome.models import Site
from microtome.shapes import Float, Tensor

_BLOCK_VALUES = 1 << 23
"""Pre-activations held at once while encoding: 32 MB of fp32."""


@final
class SAE(Dictionary):
    """A sparse autoencoder in the convention of Bricken et al. 2023, with its input scaled inside.

    With s = `input_scale`:  pre = W_enc (s x - b_dec) + b_enc,  a = nonlinearity(pre),  x_hat = (W_dec^T a + b_dec) / s.
    A feature is a row of `W_enc` and of `W_dec`. Weights that are not finite or do not fit each other raise `DictionaryInvalid`.
    """

    pooling = "token"

    def __init__(self, *, site: Site, nonlinearity: Nonlinearity, weights: dict[str, Tensor], input_scale: float) -> None:
        check_weights(weights, input_scale=input_scale)
        self.reads = site
        self.writes = (site,)
        self.nonlinearity = nonlinearity
        self.input_scale = input_scale
        self.W_enc: Float[Tensor, "d_dict d_in"] = weights["W_enc"]
        self.W_dec: Float[Tensor, "d_dict d_out"] = weights["W_dec"]
        self.b_enc: Float[Tensor, "d_dict"] = weights["b_enc"]
        self.b_dec: Float[Tensor, "d_out"] = weights["b_dec"]
        self.d_dict, self.d_in = self.W_enc.shape
        self.d_out = self.d_in

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        """See `Dictionary.encode`. The product is fp32, in blocks of rows, so memory does not grow with the number of tokens."""
        self.fits(x)
        block = max(1, _BLOCK_VALUES // self.d_dict)
        parts = [self.nonlinearity(self._pre(rows)) for rows in x.split(block)]
        width = max(part.indices.shape[1] for part in parts)
        indices = torch.cat([F.pad(part.indices, (0, width - part.indices.shape[1])) for part in parts])
        values = torch.cat([F.pad(part.values, (0, width - part.values.shape[1])) for part in parts])
        return SparseCodes(indices, values, self.d_dict)

    @torch.no_grad()
    def decode(self, codes: SparseCodes) -> Float[Tensor, "n d_out"]:
        scaled = F.embedding_bag(codes.indices, self.W_dec, per_sample_weights=codes.values.to(self.W_dec.dtype), mode="sum")
        return scaled.add_(self.b_dec).div_(self.input_scale)

    def directions(self, *, write: Site | None = None) -> Float[Tensor, "d_dict d_out"]:
        self.written(write)
        return self.W_dec / self.input_scale

    def encoder_directions(self) -> Float[Tensor, "d_dict d_in"]:
        return self.W_enc * self.input_scale

    def direction(self, feature: int, *, write: Site | None = None) -> Float[Tensor, "d_out"]:
        self.written(write)
        return self.W_dec[self._known(feature)] / self.input_scale

    def encoder_direction(self, feature: int) -> Float[Tensor, "d_in"]:
        return self.W_enc[self._known(feature)] * self.input_scale

    def weights(self) -> dict[str, Tensor]:
        """The four tensors by their stored names."""
        return {"W_enc": self.W_enc, "W_dec": self.W_dec, "b_enc": self.b_enc, "b_dec": self.b_dec}

    def to(self, device: torch.device | str) -> "SAE":
        """The same dictionary with its weights on another device."""
        moved = {name: weight.to(device) for name, weight in self.weights().items()}
        return SAE(site=self.reads, nonlinearity=self.nonlinearity, weights=moved, input_scale=self.input_scale)

    def _pre(self, rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_dict"]:
        return F.linear(rows.to(self.W_enc.dtype) * self.input_scale - self.b_dec, self.W_enc, self.b_enc)


def check_weights(weights: dict[str, Tensor], *, input_scale: float) -> None:
    """Raise `DictionaryInvalid` unless names, shapes and types are those of an SAE and every number is finite."""
    wanted = {"W_enc", "W_dec", "b_enc", "b_dec"}
    if set(weights) != wanted:
        do = "Train the dictionary again, or convert it from its own format."
        raise DictionaryInvalid("the tensors are not those of an SAE.", got=", ".join(sorted(weights)), wanted=", ".join(sorted(wanted)), do=do)
    if weights["W_enc"].ndim != 2:
        raise DictionaryInvalid("W_enc is not a matrix.", got=tuple(weights["W_enc"].shape), wanted="(d_dict, d_in)", do="Check the file's origin.")
    d_dict, d_in = weights["W_enc"].shape
    shapes = {"W_enc": (d_dict, d_in), "W_dec": (d_dict, d_in), "b_enc": (d_dict,), "b_dec": (d_in,)}
    for name, shape in shapes.items():
        weight = weights[name]
        if tuple(weight.shape) != shape:
            do = "A feature is a row of W_enc and of W_dec; transpose a foreign file."
            raise DictionaryInvalid(f"{name} has the wrong shape.", got=tuple(weight.shape), wanted=shape, do=do)
        if not weight.is_floating_point():
            raise DictionaryInvalid(f"{name} does not hold real numbers.", got=weight.dtype, wanted="float32", do="Check the file's origin.")
        if not bool(weight.isfinite().all()):
            bad = int((~weight.isfinite()).sum())
            raise DictionaryInvalid(f"{name} holds values that are not finite.", got=f"{bad} of them", wanted="none", do="Train it again.")
    if not 0 < input_scale < float("inf"):
        raise DictionaryInvalid("input_scale is not a positive number.", got=input_scale, wanted="> 0", do="Train the dictionary again.")
