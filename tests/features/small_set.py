"""Small real indexes of sets: per-layer and cross-layer transcoders on a tiny model with a norm before each MLP, over the corpus of `small_store`."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations import HarvestConfig, Shards, harvest
from microtome.artifacts import Draft
from microtome.dictionaries import DictionarySet, ReLU, TopK, Transcoder, save
from microtome.features import FeatureIndex, IndexConfig, build_index
from microtome.models import Site
from tests.features.small_store import CONFIG, Made

D, K, LAYERS = 24, 4, 3
SCALED = 5
EXACT = replace(CONFIG, values="float32")


def transcoder(d_model: int, layer: int, *, cross: bool, relu: bool = False, stretch: float = 1.0) -> Transcoder:
    """A random transcoder of one layer; its last feature never fires. Decoders of a cross-layer one differ by the site written.

    With ReLU the features know nothing of each other, and feature `SCALED` can be stretched: what it writes stays, its activations grow.
    """
    draw = torch.Generator().manual_seed(layer)
    writes = tuple(Site("mlp_out", later) for later in range(layer, LAYERS if cross else layer + 1))
    b_enc = torch.zeros(D)
    b_enc[-1] = -1e4
    weights = {
        "W_enc": torch.randn(D, d_model, generator=draw),
        "W_dec": torch.randn(D, len(writes), d_model, generator=draw),
        "b_enc": b_enc,
        "b_dec": torch.zeros(len(writes), d_model),
    }
    if not cross:
        weights["W_dec"], weights["b_dec"] = weights["W_dec"][:, 0], weights["b_dec"][0]
    if relu:
        b_enc[:-1] = -6.0
    weights["W_enc"][SCALED] *= stretch
    weights["b_enc"][SCALED] *= stretch
    weights["W_dec"][SCALED] /= stretch
    nonlinearity = ReLU() if relu else TopK(k=K)
    return Transcoder(reads=Site("mlp_in", layer), writes=writes, nonlinearity=nonlinearity, weights=weights, input_scale=1.5, output_scale=0.5)


def small_set(d_model: int, *, cross: bool, relu: bool = False, stretch: float = 1.0) -> DictionarySet:
    members = tuple(transcoder(d_model, layer, cross=cross, relu=relu, stretch=stretch) for layer in range(LAYERS))
    return DictionarySet(members, kind="cross-layer" if cross else "layers")


@dataclass(frozen=True, kw_only=True)
class MadeSet:
    """A set, its artifact, and what it was indexed over."""

    base: Made
    loaded: DictionarySet
    dictionary: Path
    shards: Shards
    """All sites that are read, and the stream before them, in float32."""

    def build(self, name: str, *, shards: Shards | None = None, config: IndexConfig = EXACT) -> FeatureIndex:
        out = self.base.workspace.place("index", name)
        return build_index(self.dictionary, shards, corpus=self.base.corpus, model=self.base.model, out=out, config=config)

    def rows(self, site: Site) -> npt.NDArray[np.float32]:
        """The activations of every token at a site."""
        return np.concatenate([self.shards.block(number, site).x.float().numpy() for number in range(len(self.shards.ranges))])

    def dense(self, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Brute force: every activation of every feature, [n_tokens, features]."""
        parts: list[npt.NDArray[np.float32]] = []
        for member in self.loaded.members:
            codes = member.encode(torch.from_numpy(self.rows(member.reads)))
            full = torch.zeros(codes.rows, D).scatter_(1, codes.indices.long(), codes.values)
            parts.append(full.clamp_min(0).numpy() * keep[:, None])
        return np.concatenate(parts, 1)


def make_set(base: Made, *, cross: bool = False, relu: bool = False, stretch: float = 1.0) -> MadeSet:
    name = f"{'cross' if cross else 'layers'}-{'relu' if relu else 'topk'}-{stretch:g}"
    loaded = small_set(base.model.d_model, cross=cross, relu=relu, stretch=stretch)
    sites = tuple(Site(kind, layer) for layer in range(LAYERS) for kind in ("mlp_in", "resid_mid"))
    place = base.workspace.place("shards", "mlp")
    shards = harvest(base.model, base.corpus, config=HarvestConfig(sites=sites, dtype="float32"), out=place)
    with Draft.open(base.workspace.place("dictionary", name), "dictionary", config={}, inputs={"corpus": base.corpus.id}) as draft:
        save(loaded, draft)
        draft.finish()
    return MadeSet(base=base, loaded=loaded, dictionary=base.workspace.place("dictionary", name), shards=shards)
