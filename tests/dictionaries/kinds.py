"""Small dictionaries of every kind and nonlinearity, and each nonlinearity's dense formula."""

from collections.abc import Callable, Mapping

import torch

from microtome.dictionaries import (
    SAE,
    AbsTopK,
    BatchTopK,
    Crosscoder,
    Dictionary,
    Gated,
    JumpReLU,
    Nearest,
    Nonlinearity,
    ReLU,
    SparseCodes,
    TopK,
    Transcoder,
)
from microtome.models import Site

SITE, READ, WRITES = Site("resid_post", 3), Site("mlp_in", 1), (Site("mlp_out", 1), Site("mlp_out", 2), Site("mlp_out", 3))
D_IN, D_OUT, D_DICT = 12, 10, 40

NONLINEARITIES: dict[str, Nonlinearity] = {
    "relu": ReLU(),
    "jumprelu": JumpReLU(),
    "topk": TopK(k=5),
    "abstopk": AbsTopK(k=5),
    "batchtopk": BatchTopK(k=5, threshold=0.7),
    "batchtopk-untrained": BatchTopK(k=5),
    "gated": Gated(),
    "nearest": Nearest(),
}

Dense = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]


def keep(pre: torch.Tensor, chosen_by: torch.Tensor, k: int) -> torch.Tensor:
    """`pre` where `chosen_by` is among the k largest of its row, 0 elsewhere."""
    return torch.zeros_like(pre).scatter(1, chosen_by.topk(k, dim=1).indices, 1.0) * pre


DENSE: dict[str, Dense] = {
    "relu": lambda pre, w: pre.clamp_min(0),
    "jumprelu": lambda pre, w: pre * (pre > w["threshold"]),
    "topk": lambda pre, w: keep(pre, pre, 5).clamp_min(0),
    "abstopk": lambda pre, w: keep(pre, pre.abs(), 5),
    "batchtopk": lambda pre, w: pre * (pre > 0.7),
    "batchtopk-untrained": lambda pre, w: keep(pre, pre, 5).clamp_min(0),
    "gated": lambda pre, w: (pre > 0) * (w["r_mag"].exp() * (pre - w["b_enc"]) + w["b_mag"]).clamp_min(0),
    "nearest": lambda pre, w: keep(torch.ones_like(pre), pre, 1),
}


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features_of(name: str, d_dict: int = D_DICT) -> dict[str, torch.Tensor]:
    """Weights of one number a feature."""
    own = {"threshold": draw(d_dict, seed=5).abs(), "r_mag": 0.3 * draw(d_dict, seed=6), "b_mag": 0.3 * draw(d_dict, seed=7)}
    return {"b_enc": 0.1 * draw(d_dict, seed=3), **{tensor: own[tensor] for tensor in NONLINEARITIES[name].tensors}}


def sae_of(name: str = "topk", *, centred: bool = True, input_scale: float = 0.25, pooling: str = "token") -> SAE:
    weights = {"W_enc": draw(D_DICT, D_IN, seed=1), "W_dec": draw(D_DICT, D_IN, seed=2), "b_dec": draw(D_IN, seed=4), **features_of(name)}
    nonlinearity = NONLINEARITIES[name]
    return SAE(site=SITE, nonlinearity=nonlinearity, weights=weights, input_scale=input_scale, centred=centred, pooling=pooling)


def transcoder_of(name: str = "topk", *, writes: int = 1, tied: bool = False, skip: bool = False, own_biases: bool = False) -> Transcoder:
    W_dec = draw(D_DICT, D_OUT, seed=2) if writes == 1 or tied else draw(D_DICT, writes, D_OUT, seed=2)
    weights = {"W_enc": draw(D_DICT, D_IN, seed=1), "W_dec": W_dec, **features_of(name)}
    weights["b_dec"] = draw(writes, D_OUT, seed=4) if own_biases else draw(D_OUT, seed=4)
    if skip:
        weights["W_skip"] = draw(D_OUT, D_IN, seed=8)
    nonlinearity = NONLINEARITIES[name]
    return Transcoder(reads=READ, writes=WRITES[:writes], nonlinearity=nonlinearity, weights=weights, input_scale=0.5, output_scale=2.0)


def crosscoder_of(name: str = "topk") -> Crosscoder:
    weights = {"W_enc": draw(D_DICT, D_IN, seed=1), "W_dec": draw(D_DICT, D_IN, seed=2), "b_dec": draw(D_IN, seed=4), **features_of(name)}
    nonlinearity = NONLINEARITIES[name]
    return Crosscoder(reads=WRITES[:2], widths=(8, 4), nonlinearity=nonlinearity, weights=weights, input_scales=(0.25, 2.0))


KINDS: dict[str, Callable[[str], Dictionary]] = {
    "sae": sae_of,
    "sae-not-centred": lambda name: sae_of(name, centred=False),
    "transcoder": transcoder_of,
    "transcoder-skip": lambda name: transcoder_of(name, skip=True),
    "cross-layer": lambda name: transcoder_of(name, writes=3),
    "cross-layer-tied": lambda name: transcoder_of(name, writes=3, tied=True, own_biases=True),
    "crosscoder": crosscoder_of,
}


def rows(n: int = 30, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (4 * draw(n, D_IN, seed=11)).to(dtype)


def dense(codes: SparseCodes) -> torch.Tensor:
    return torch.zeros(codes.rows, codes.d_dict, dtype=codes.values.dtype).scatter_add(1, codes.indices, codes.values)
