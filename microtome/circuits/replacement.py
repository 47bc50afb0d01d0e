"""The local replacement model: a prompt's forward with every MLP taken apart into active features, an error and constants.

Or, with SAEs of the residual stream, with the stream written anew where each reads it: everything later reads the SAE's features, its error and its
bias, and only the features read what came before.

Attention patterns and norm scales are held (`microtome.models.Frozen`), so that what any feature or logit reads is a sum over what was written before
it (Ameisen et al. 2025, "Circuit tracing", local replacement model; here with biases as sources of their own, so that the sum is whole).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias, final

import torch

from microtome.dictionaries import SAE, Dictionary, DictionarySet, SparseCodes, Transcoder
from microtome.errors import ActivationsNotFinite, ShapeMismatch
from microtome.models import Frozen, HeldNorm, Model, Site, TurnSpan
from microtome.shapes import Float, Int, Tensor

Missing: TypeAlias = Literal["refuse", "error"]
_READS = ("mlp_in", "resid_mid", "resid_pre")
_NOTHING = 1e-5
"""A constant of up to this share of what is written is none: it is rounding."""
_SETS = "Give a set of transcoders of this model, one a layer, that read mlp_in and write mlp_out; or SAEs of the residual stream between layers."


class Reading(NamedTuple):
    """From which place of the residual stream a site is read, and through which norm.

    Places are counted along the stream: 2 l before block l, 2 l + 1 between its attention and its MLP, 2 n_layers at the end.
    """

    place: int
    norm: HeldNorm | None

    def back(self, vectors: Float[Tensor, "n width"], positions: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """The gradients by the stream of ⟨vector, what is read at the position⟩."""
        return vectors if self.norm is None else self.norm.back(vectors) * self.norm.scale[positions][:, None]

    def constant(self, vectors: Float[Tensor, "n width"]) -> Float[Tensor, "n"]:
        """What ⟨vector, what is read⟩ has from the norm's bias."""
        return vectors.new_zeros(len(vectors)) if self.norm is None else vectors @ self.norm.bias.to(vectors)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """The active features of a prompt, by (layer, position, feature)."""

    layer: Int[Tensor, "n"]
    position: Int[Tensor, "n"]
    feature: Int[Tensor, "n"]
    activation: Float[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.layer)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A place where the residual stream is written anew by an SAE."""

    layer: int
    """Of the site that it reads."""
    site: Site
    error: Float[Tensor, "pos d_model"]
    constant: Float[Tensor, "d_model"] | None


@final
class Replacement:
    """See the top of this file. `members` are transcoders by the layer that they read, as `members_of` gives them; an SAE is one that writes where it
    reads. `read` are sites that targets are read at. A dictionary of turns encodes the mean over the content of each of `turns`: each of its tokens
    has the features of its turn, and reads for them what it adds to that mean, times their number. Tokens outside of turns have none.

    Raises what `Frozen` does, and `ActivationsNotFinite` where a dictionary's activations overflow.
    """

    def __init__(
        self,
        model: Model,
        members: Mapping[int, Transcoder],
        tokens: Int[Tensor, "pos"],
        *,
        logits_at: Collection[int] = (),
        read: Collection[Site] = (),
        turns: Sequence[TurnSpan] = (),
    ) -> None:
        self.model = model
        self.turns = tuple(turns)
        self.members = {layer: _on(member, model.device) for layer, member in sorted(members.items())}
        ends = [Site("embed"), Site("resid_pre", 0), Site("final_norm")]
        reads = {*ends, *read, *(member.reads for member in members.values())}
        skips = {layer: _skip(member) for layer, member in self.members.items() if member.W_skip is not None}
        self.frozen = Frozen(model, tokens, read=reads, logits_at=logits_at, skips=skips)
        codes = {layer: self._codes(member) for layer, member in self.members.items()}
        self.features = _active(codes, device=model.device)
        self.errors = [self._error(Site("mlp_out", layer), codes) for layer in range(self.n_layers)]
        self.mlp_constants = [self._constant(Site("mlp_out", layer)) for layer in range(self.n_layers)]
        stream = {layer: self.reading(member.reads) for layer, member in self.members.items() if member.writes == (member.reads,)}
        self.cuts = {reading.place: self._cut(layer, codes) for layer, reading in stream.items() if reading is not None}
        """SAEs of the stream, by the place that they read and write anew."""
        self.attention_constants = [self._unless_nothing(constant) for constant in self.frozen.constants()]
        self.embedding, self.position = self._start()

    @property
    def n_layers(self) -> int:
        return self.model.n_layers

    @property
    def n_tokens(self) -> int:
        return self.frozen.n_tokens

    @cached_property
    def dtype(self) -> torch.dtype:
        """What effects are computed in: float32, or float64 where the model is."""
        return torch.float64 if self.model.dtype == torch.float64 else torch.float32

    def read(self, site: Site) -> Float[Tensor, "pos width"]:
        """What the clean forward had at a site."""
        return self.frozen.clean[site].to(self.dtype)

    def reading(self, site: Site) -> Reading | None:
        """How a site is read from the stream; None for one that is not (a write, or the embedding)."""
        if site.kind == "final_norm":
            return Reading(2 * self.n_layers, self.frozen.norm(site))
        layer = site.layer
        mid = {} if self.model.is_parallel else {"resid_mid": 1}
        places = {"resid_pre": 0, "attn_in": 0, "mlp_in": 0 if self.model.is_parallel else 1, "resid_post": 2, **mid}
        if layer is None or site.kind not in places:
            return None
        norm = self.frozen.norm(site) if site.kind in ("attn_in", "mlp_in") else None
        return Reading(2 * layer + places[site.kind], norm)

    def writers(self, site: Site) -> list[int]:
        """Layers whose member writes at a site."""
        return [source for source, member in self.members.items() if site in member.writes]

    def span(self, layer: int) -> tuple[int, int]:
        """First and one past the last of a layer's features."""
        bounds = torch.searchsorted(self.features.layer, torch.tensor([layer, layer + 1], device=self.features.layer.device))
        return int(bounds[0]), int(bounds[1])

    def written(self, source: int, site: Site, some: slice = slice(None)) -> Float[Tensor, "n d_model"]:
        """What features of layer `source`, or some of them, add to what is written at a site: activation · decoder."""
        here = slice(*self.span(source))
        member, features = self.members[source], self.features.feature[here][some]
        place = member.written(site)
        decoder = member.W_dec[features] if member.W_dec.ndim == 2 else member.W_dec[features, place]
        return decoder.to(self.dtype).mul_(self.features.activation[here][some, None] / member.output_scale)

    @cached_property
    def together(self) -> Int[Tensor, "n"] | None:
        """By feature, a number that it shares with the nodes of the same feature in the same turn; None where no dictionary is of turns."""
        if all(member.pooling == "token" for member in self.members.values()):
            return None
        turn = torch.tensor([-1] * self.n_tokens, device=self.model.device)
        for i, span in enumerate(self.turns):
            turn[span.content_start : span.content_end] = self.n_tokens + i
        pooled = torch.tensor([layer for layer, member in self.members.items() if member.pooling != "token"], device=turn.device)
        features = self.features
        place = torch.where(torch.isin(features.layer, pooled), turn[features.position], features.position)
        return torch.unique(torch.stack([features.layer, place, features.feature]), dim=1, return_inverse=True)[1]

    def _codes(self, member: Transcoder) -> SparseCodes:
        """What is active at each token."""
        x = self.read(member.reads)
        if member.pooling == "token":
            return member.encode(x)
        spans = [(span.content_start, span.content_end) for span in self.turns if span.content_start < span.content_end]
        of = torch.full((len(x),), len(spans), device=x.device)
        for i, (start, stop) in enumerate(spans):
            of[start:stop] = i
        codes = member.encode(torch.stack([x[start:stop].mean(0) for start, stop in spans]))
        silent = torch.zeros_like(codes.values[:1])
        return SparseCodes(torch.cat([codes.indices, codes.indices[:1]])[of], torch.cat([codes.values, silent])[of], codes.d_dict)

    def _error(self, site: Site, codes: Mapping[int, SparseCodes]) -> Float[Tensor, "pos d_model"]:
        """What was there beyond features, constants and skip."""
        rest = self.read(site).clone()
        for source in self.writers(site):
            member = self.members[source]
            rest -= member.reconstruct(self.read(member.reads), codes=codes[source], write=site)
        if not bool(rest.isfinite().all()):
            got = str(site)
            raise ActivationsNotFinite("a reconstruction is not finite.", got=got, wanted="finite numbers", do="Check the dictionary's weights.")
        return rest

    def _constant(self, site: Site) -> Float[Tensor, "d_model"] | None:
        total = torch.zeros(self.model.d_model, dtype=self.dtype, device=self.model.device)
        for source in self.writers(site):
            total += self.members[source].bias(site) / self.members[source].output_scale
        skip = self.frozen.skips.get(site.layer) if site.kind == "mlp_out" and site.layer is not None else None
        reading = self.reading(Site("mlp_in", site.layer)) if skip is not None else None
        if skip is not None and reading is not None and reading.norm is not None:
            total += skip.to(total) @ reading.norm.bias.to(total)
        return total if bool(total.any()) else None

    def _cut(self, layer: int, codes: Mapping[int, SparseCodes]) -> "Cut":
        site = self.members[layer].reads
        return Cut(layer=layer, site=site, error=self._error(site, codes), constant=self._constant(site))

    def _unless_nothing(self, constant: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"] | None:
        least = _NOTHING * float(self.read(Site("resid_pre", 0)).abs().max())
        return constant.to(self.dtype) if float(constant.abs().max()) > least else None

    def _start(self) -> tuple[Tensor, Tensor | None]:
        """The stream before block 0 as a token's part and a position's part, where there is one."""
        start, embed = self.read(Site("resid_pre", 0)), self.read(Site("embed"))
        if embed.shape != start.shape:
            return start, None
        times = float((start * embed).sum() / embed.square().sum().clamp_min(1e-30))
        if float((start - times * embed).abs().max()) <= _NOTHING * float(start.abs().max()):  # scaled outside of the embedding's module
            return start, None
        return embed, start - embed


def members_of(model: Model, dictionaries: Dictionary | DictionarySet, *, missing: Missing, turns: bool = False) -> dict[int, Transcoder]:
    """The transcoders of a set by layer, after it was checked that they are for the MLPs of this model; or its SAEs of the stream, as transcoders.

    `turns`: SAEs of turns are let in. Raises `ShapeMismatch`, also (unless `missing` is `error`) for layers without a transcoder. With SAEs of the
    stream MLPs are errors as a whole.
    """
    given = dictionaries.members if isinstance(dictionaries, DictionarySet) else (dictionaries,)
    streams = [member for member in given if isinstance(member, SAE)]
    if streams and len(streams) == len(given):
        return _rewriting(model, streams, poolings=("token", "turn") if turns else ("token",))
    members: dict[int, Transcoder] = {}
    for member in given:
        checked = _fitting(model, member)
        assert checked.reads.layer is not None
        members[checked.reads.layer] = checked
    written = {site.layer for member in members.values() for site in member.writes}
    absent = [layer for layer in range(model.n_layers) if layer not in written]
    if absent and missing == "refuse":
        got = f"{len(absent)} of {model.n_layers} layers without one: {', '.join(map(str, absent[:8]))}{', …' if len(absent) > 8 else ''}"
        do = 'Train the layers that are missing, or trace with TraceConfig(missing="error"): their MLPs are then errors as a whole.'
        raise ShapeMismatch("the set has no transcoder for some layers.", got=got, wanted="one for every layer's MLP", do=do)
    return members


def _rewriting(model: Model, saes: Collection[SAE], *, poolings: Collection[str]) -> dict[int, Transcoder]:
    """SAEs of the stream by layer, each as the transcoder that writes where it reads.

    W_enc (s x − b_dec) + b_enc = W_enc s x + (b_enc − W_enc b_dec) gives its bias.
    """
    members: dict[int, Transcoder] = {}
    taken: set[int] = set()
    for sae in saes:
        site = sae.reads
        known = site.layer is not None and model.has(site)
        place = {"resid_pre": 0, "resid_post": 1}.get(site.kind, model.n_layers) + (site.layer or 0)
        if sae.pooling not in poolings or not known or not 0 < place < model.n_layers or place in taken or sae.d_in != model.width(site):
            got = f"an SAE of {site}, {sae.d_in} wide, pooling {sae.pooling}"
            wanted = f"resid_post of layers 0 to {model.n_layers - 2}, {model.d_model} wide, one a place, pooling {' or '.join(poolings)}"
            do = _SETS if sae.pooling in poolings else "Give the turns of a conversation too: trace(…, turns=rendered.turns), or --turns."
            raise ShapeMismatch("a graph cannot be made through this SAE.", got=got, wanted=wanted, do=do)
        assert site.layer is not None
        taken.add(place)
        offset = sae.W_enc @ sae.b_dec if sae.centred else 0
        weights = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_enc": sae.b_enc - offset, "b_dec": sae.b_dec, **sae.tensors}
        scale, act = sae.input_scale, sae.nonlinearity
        members[site.layer] = Transcoder(
            reads=site, writes=(site,), nonlinearity=act, weights=weights, input_scale=scale, output_scale=scale, pooling=sae.pooling
        )
    return members


def _fitting(model: Model, member: Dictionary) -> Transcoder:
    reads, writes = member.reads, ", ".join(map(str, member.writes[:3]))
    if not isinstance(member, Transcoder) or reads.kind not in _READS or any(site.kind != "mlp_out" for site in member.writes):
        got = f"{type(member).__name__} that reads {reads} and writes {writes}"
        raise ShapeMismatch(
            "a graph needs transcoders, or SAEs of the stream alone.", got=got, wanted=f"reads {' or '.join(_READS)}, writes mlp_out", do=_SETS
        )
    if member.pooling != "token":
        raise ShapeMismatch("a graph's features are of single tokens.", got=member.pooling, wanted="pooling token", do=_SETS)
    unknown = [site for site in (reads, *member.writes) if not model.has(site)]
    if unknown:
        got, wanted = f"{unknown[0]}", f"sites of {model.ref}, {model.n_layers} layers"
        raise ShapeMismatch("the dictionary is for another model: a site of it is not here.", got=got, wanted=wanted, do=_SETS)
    widths = (member.d_in, member.d_out)
    if widths != (model.width(reads), model.width(member.writes[0])):
        wanted = (model.width(reads), model.width(member.writes[0]))
        raise ShapeMismatch("the dictionary is for another model: its widths differ.", got=widths, wanted=wanted, do=_SETS)
    early = [site for site in member.writes if (site.layer or 0) < (reads.layer or 0)]
    if early or (member.W_skip is not None and (reads.kind != "mlp_in" or member.writes[0].layer != reads.layer)):
        wanted = f"writes from {reads} on; a skip from mlp_in to the same layer's mlp_out"
        raise ShapeMismatch("a transcoder writes before it reads, or skips elsewhere.", got=f"{reads} to {writes}", wanted=wanted, do=_SETS)
    return member


def _on(member: Transcoder, device: torch.device) -> Transcoder:
    return member if member.W_enc.device == device else member.to(device)  # moving checks every weight anew


def _skip(member: Transcoder) -> Float[Tensor, "d_out d_in"]:
    assert member.W_skip is not None
    return member.W_skip * (member.input_scale / member.output_scale)


def _active(codes: Mapping[int, SparseCodes], *, device: torch.device) -> Features:
    layers: list[Tensor] = []
    positions: list[Tensor] = []
    features: list[Tensor] = []
    values: list[Tensor] = []
    for layer, code in codes.items():
        csr = code.to_csr()
        layers.append(torch.full((len(csr.indices),), layer, dtype=torch.int64, device=device))
        positions.append(torch.repeat_interleave(torch.arange(code.rows, device=device), csr.indptr.diff().to(device)))
        features.append(csr.indices.long().to(device))
        values.append(csr.values.to(device))
    return Features(layer=torch.cat(layers), position=torch.cat(positions), feature=torch.cat(features), activation=torch.cat(values))
