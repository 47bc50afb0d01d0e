"""The transcoder: reads one site, writes one or several others."""

from collections.abc import Mapping
from typing import final

import torch

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.encoder import check_pooling, check_scale, checked_weights, encode_in_blocks, encoder_shape, summed
from microtome.dictionaries.nonlinearity import Nonlinearity
from microtome.errors import DictionaryInvalid
from microtome.models import Site
from microtome.shapes import Float, Tensor


@final
class Transcoder(Dictionary):
    """Predicts what is written at other sites from what is read at one (Dunefsky et al. 2024; several writes: Ameisen et al. 2025).

    With s = `input_scale`, t = `output_scale`, for write w:

        pre = W_enc s x + b_enc      a = nonlinearity(pre)      y_hat_w = (W_dec[:, w]^T a + b_dec_w + W_skip s x) / t

    `weights`: `W_enc [d_dict, d_in]`, `W_dec [d_dict, d_out]` (one decoder, shared by all writes) or `[d_dict, writes, d_out]`, `b_enc [d_dict]`,
    `b_dec [d_out]` (belongs to the first write) or `[writes, d_out]`, perhaps `W_skip [d_out, d_in]` (reaches the first write; `decode` knows no
    x, so only `reconstruct` adds it), and the nonlinearity's own. One source layer of a cross-layer transcoder is a transcoder with several
    writes, of which the first is its own layer's.
    """

    def __init__(
        self,
        *,
        reads: Site,
        writes: tuple[Site, ...],
        nonlinearity: Nonlinearity,
        weights: Mapping[str, Tensor],
        input_scale: float = 1.0,
        output_scale: float = 1.0,
        pooling: str = "token",
    ) -> None:
        self.d_dict, self.d_in = encoder_shape(weights, "a transcoder")
        self.reads = reads
        self.writes = _distinct(writes)
        self.nonlinearity = nonlinearity
        self.input_scale = input_scale
        self.output_scale = output_scale
        self.pooling = pooling
        held = checked_weights(weights, self._shapes(weights), kind="a transcoder", optional=("W_skip",))
        check_scale(input_scale, "input_scale")
        check_scale(output_scale, "output_scale")
        check_pooling(pooling)
        self.d_out = held["W_dec"].shape[-1]
        self.W_enc: Float[Tensor, "d_dict d_in"] = held["W_enc"]
        self.W_dec: Float[Tensor, "d_dict *decoders d_out"] = held["W_dec"]
        self.b_enc: Float[Tensor, "d_dict"] = held["b_enc"]
        self.b_dec: Float[Tensor, "*decoders d_out"] = held["b_dec"]
        self.W_skip: Float[Tensor, "d_out d_in"] | None = held.get("W_skip")
        self.tensors: dict[str, Tensor] = {name: held[name] for name in nonlinearity.tensors}
        """The nonlinearity's own weights, one number a feature."""

    @property
    def decoders(self) -> int:
        """How many decoders there are: one (tied, or a single write), or one a write."""
        return 1 if self.W_dec.ndim == 2 else self.W_dec.shape[1]

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        """See `Dictionary.encode`; in blocks of rows."""
        self.fits(x)
        return encode_in_blocks(x, self.weights(), nonlinearity=self.nonlinearity, scaled=lambda rows: rows * self.input_scale)

    @torch.no_grad()
    def decode(self, codes: SparseCodes, *, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        """What the features write at `write` (default: the first), with the bias that belongs to it, without the skip."""
        place = self.written(write)
        decoders = self.decoders
        moved = codes if decoders == 1 else SparseCodes(codes.indices * decoders + place, codes.values, codes.d_dict * decoders)
        return summed(moved, self.W_dec.reshape(-1, self.d_out)).add_(self.bias(write)).div_(self.output_scale)

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "n d_in"], *, codes: SparseCodes | None = None, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        """What `decode` gives, and the skip, where there is one, on the first write."""
        made = self.decode(self.encode(x) if codes is None else codes, write=write)
        return made if self.W_skip is None or self.written(write) != 0 else made.add_(self.skip(x))

    @torch.no_grad()
    def skip(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """What goes past the features to the first write: W_skip s x / t, in the model's units; zeros where there is no skip."""
        self.fits(x)
        if self.W_skip is None:
            return torch.zeros(len(x), self.d_out, dtype=self.W_dec.dtype, device=self.W_dec.device)
        return (x.to(self.W_skip.dtype) * (self.input_scale / self.output_scale)) @ self.W_skip.T

    def bias(self, write: Site | None = None) -> Float[Tensor, "d_out"]:
        """The bias of a write, in scaled units; 0 for the later ones unless they have their own."""
        place = self.written(write)
        if self.b_dec.ndim == 2:
            return self.b_dec[place]
        return self.b_dec if place == 0 else torch.zeros_like(self.b_dec)

    def directions(self, *, write: Site | None = None) -> Float[Tensor, "d_dict d_out"]:
        return self._decoder(write) / self.output_scale

    def encoder_directions(self) -> Float[Tensor, "d_dict d_in"]:
        return self.W_enc * self.input_scale

    def direction(self, feature: int, *, write: Site | None = None) -> Float[Tensor, "d_out"]:
        return self._decoder(write)[self._known(feature)] / self.output_scale

    def encoder_direction(self, feature: int) -> Float[Tensor, "d_in"]:
        return self.W_enc[self._known(feature)] * self.input_scale

    def weights(self) -> dict[str, Tensor]:
        """All tensors by their stored names."""
        own = {"W_enc": self.W_enc, "W_dec": self.W_dec, "b_enc": self.b_enc, "b_dec": self.b_dec, **self.tensors}
        return own if self.W_skip is None else {**own, "W_skip": self.W_skip}

    def with_weights(self, weights: Mapping[str, Tensor], *, nonlinearity: Nonlinearity | None = None) -> "Transcoder":
        """The same kind of dictionary at the same sites with other weights."""
        return Transcoder(
            reads=self.reads,
            writes=self.writes,
            nonlinearity=nonlinearity or self.nonlinearity,
            weights=weights,
            input_scale=self.input_scale,
            output_scale=self.output_scale,
            pooling=self.pooling,
        )

    def to(self, device: torch.device | str) -> "Transcoder":
        """The same dictionary with its weights on another device."""
        return self.with_weights({name: weight.to(device) for name, weight in self.weights().items()})

    def _decoder(self, write: Site | None) -> Float[Tensor, "d_dict d_out"]:
        place = self.written(write)
        return self.W_dec if self.W_dec.ndim == 2 else self.W_dec[:, place]

    def _shapes(self, weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        n_writes, features = len(self.writes), (self.d_dict,)
        W_dec, b_dec = weights.get("W_dec"), weights.get("b_dec")
        d_out = 0 if W_dec is None else W_dec.shape[-1]
        per_write = W_dec is not None and W_dec.ndim == 3
        own_bias = b_dec is not None and b_dec.ndim == 2
        shapes: dict[str, tuple[int, ...]] = {
            "W_enc": (self.d_dict, self.d_in),
            "W_dec": (self.d_dict, n_writes, d_out) if per_write else (self.d_dict, d_out),
            "b_enc": features,
            "b_dec": (n_writes, d_out) if own_bias else (d_out,),
            "W_skip": (d_out, self.d_in),
        }
        return {**shapes, **dict.fromkeys(self.nonlinearity.tensors, features)}


def _distinct(writes: tuple[Site, ...]) -> tuple[Site, ...]:
    if not writes or len(set(writes)) != len(writes):
        got = ", ".join(map(str, writes)) or "none"
        do = "Give each site that is written once."
        raise DictionaryInvalid("a transcoder writes one or several different sites.", got=got, wanted="different sites", do=do)
    return writes
