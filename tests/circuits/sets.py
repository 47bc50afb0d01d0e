"""Small transcoder sets for tiny models: per layer or across layers, with and without skip paths."""

from typing import Literal

import torch

from microtome.dictionaries import DictionarySet, ReLU, Transcoder
from microtome.models import Model, Site


def transcoders(
    model: Model, *, kind: Literal["layers", "cross-layer"] = "layers", skip: bool = False, d_dict: int = 24, seed: int = 0, writes_by: float = 0.25
) -> DictionarySet:
    """A random set that reads what the MLPs read and writes what they write."""
    random = torch.Generator().manual_seed(seed)
    d = model.d_model
    members: list[Transcoder] = []
    for layer in range(model.n_layers):
        writes = tuple(Site("mlp_out", other) for other in range(layer, model.n_layers if kind == "cross-layer" else layer + 1))
        weights = {
            "W_enc": torch.randn(d_dict, d, generator=random) / d**0.5,
            "W_dec": torch.randn(d_dict, len(writes), d, generator=random) * writes_by,
            "b_enc": torch.randn(d_dict, generator=random) / 10,
            "b_dec": torch.randn(len(writes), d, generator=random) / 10,
        }
        if skip:
            weights["W_skip"] = torch.randn(d, d, generator=random) / 10
        members.append(Transcoder(reads=Site("mlp_in", layer), writes=writes, nonlinearity=ReLU(), weights=weights, input_scale=1.2))
    return DictionarySet(tuple(members), kind=kind)
