"""Random transcoders of the demo model: what is active differs from trained ones, what a graph of them costs does not."""

import torch

from microtome.dictionaries import DictionarySet, JumpReLU, TopK, Transcoder
from microtome.models import Model, Site

FEATURES, ACTIVE, CROSS_FEATURES = 2048, 16, 512


def layers(model: Model) -> DictionarySet:
    """One a layer, of the shape of the recipe `demo-plt`."""
    draw = torch.Generator().manual_seed(0)
    members: list[Transcoder] = []
    for layer in range(model.n_layers):
        weights = {name: torch.randn(FEATURES, model.d_model, generator=draw) / 24 for name in ("W_enc", "W_dec")}
        weights |= {"b_enc": torch.zeros(FEATURES), "b_dec": torch.zeros(model.d_model)}
        reads, writes = Site("mlp_in", layer), (Site("mlp_out", layer),)
        members.append(Transcoder(reads=reads, writes=writes, nonlinearity=TopK(k=ACTIVE), weights=weights))
    return DictionarySet(tuple(members))


def cross_layer(model: Model, text: str) -> DictionarySet:
    """A set whose members write at their own and all later layers, their thresholds such that about 16 features are active a token of the text."""
    draw, n, d = torch.Generator().manual_seed(0), model.n_layers, model.d_model
    reads = [Site("mlp_in", layer) for layer in range(n)]
    seen = model.capture(torch.tensor([model.tokenizer.encode(text)]), reads)
    members: list[Transcoder] = []
    for layer, site in enumerate(reads):
        encoder = torch.randn(CROSS_FEATURES, d, generator=draw) / d**0.5
        threshold = float((seen[site][0] @ encoder.T).flatten().quantile(1 - ACTIVE / CROSS_FEATURES))
        decoder = torch.randn(CROSS_FEATURES, n - layer, d, generator=draw) / (d * n) ** 0.5
        biases = {"b_enc": torch.zeros(CROSS_FEATURES), "b_dec": torch.zeros(d), "threshold": torch.full((CROSS_FEATURES,), threshold)}
        writes = tuple(Site("mlp_out", later) for later in range(layer, n))
        members.append(Transcoder(reads=site, writes=writes, nonlinearity=JumpReLU(), weights={"W_enc": encoder, "W_dec": decoder, **biases}))
    return DictionarySet(tuple(members), kind="cross-layer")
