"""The sparse autoencoder: reads and writes one site."""

from collections.abc import Mapping
from typing import final

import torch

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.encoder import check_pooling, check_scale, checked_weights, encode_in_blocks, encoder_shape, summed
from microtome.dictionaries.nonlinearity import Nonlinearity
from microtome.models import Site
from microtome.shapes import Float, Tensor


@final
class SAE(Dictionary):
    """A sparse autoencoder with its input scaled inside.

    With s = `input_scale`:  pre = W_enc (s x - b_dec) + b_enc,  a = nonlinearity(pre),  x_hat = (W_dec^T a + b_dec) / s.
    `centred=False` leaves b_dec out of the encoder (Gemma Scope); True is the convention of Bricken et al. 2023. A feature is a row of `W_enc` and
    of `W_dec`. `weights` holds `W_enc`, `W_dec`, `b_enc`, `b_dec` and the nonlinearity's own tensors `[d_dict]`, kept in fp32; what is not finite
    or does not fit raises `DictionaryInvalid`.
    """

    def __init__(
        self,
        *,
        site: Site,
        nonlinearity: Nonlinearity,
        weights: Mapping[str, Tensor],
        input_scale: float,
        pooling: str = "token",
        centred: bool = True,
    ) -> None:
        self.d_dict, self.d_in = encoder_shape(weights, "an SAE")
        self.d_out = self.d_in
        matrix, features = (self.d_dict, self.d_in), (self.d_dict,)
        shapes = {"W_enc": matrix, "W_dec": matrix, "b_enc": features, "b_dec": (self.d_in,), **dict.fromkeys(nonlinearity.tensors, features)}
        held = checked_weights(weights, shapes, kind="an SAE")
        check_scale(input_scale, "input_scale")
        check_pooling(pooling)
        self.reads = site
        self.writes = (site,)
        self.nonlinearity = nonlinearity
        self.input_scale = input_scale
        self.pooling = pooling
        self.centred = centred
        self.W_enc: Float[Tensor, "d_dict d_in"] = held["W_enc"]
        self.W_dec: Float[Tensor, "d_dict d_out"] = held["W_dec"]
        self.b_enc: Float[Tensor, "d_dict"] = held["b_enc"]
        self.b_dec: Float[Tensor, "d_out"] = held["b_dec"]
        self.tensors: dict[str, Tensor] = {name: held[name] for name in nonlinearity.tensors}
        """The nonlinearity's own weights, one number a feature."""

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        """See `Dictionary.encode`. The product is fp32, in blocks of rows, so memory does not grow with the number of tokens."""
        self.fits(x)
        return encode_in_blocks(x, self.weights(), nonlinearity=self.nonlinearity, scaled=self._scaled)

    @torch.no_grad()
    def decode(self, codes: SparseCodes, *, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        self.written(write)
        return summed(codes, self.W_dec).add_(self.b_dec).div_(self.input_scale)

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
        """All tensors by their stored names."""
        return {"W_enc": self.W_enc, "W_dec": self.W_dec, "b_enc": self.b_enc, "b_dec": self.b_dec, **self.tensors}

    def with_weights(self, weights: Mapping[str, Tensor], *, nonlinearity: Nonlinearity | None = None) -> "SAE":
        """The same kind of dictionary at the same site with other weights."""
        return SAE(
            site=self.reads,
            nonlinearity=nonlinearity or self.nonlinearity,
            weights=weights,
            input_scale=self.input_scale,
            pooling=self.pooling,
            centred=self.centred,
        )

    def to(self, device: torch.device | str) -> "SAE":
        """The same dictionary with its weights on another device."""
        return self.with_weights({name: weight.to(device) for name, weight in self.weights().items()})

    def _scaled(self, rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        scaled = rows * self.input_scale
        return scaled - self.b_dec if self.centred else scaled
