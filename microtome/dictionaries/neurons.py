"""The neurons of a model's own MLP as a dictionary: the control that needed no training at all."""

from collections.abc import Callable, Mapping
from typing import final

import torch
import torch.nn.functional as F
from torch import nn

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.encoder import blocks_of, checked_weights, encoder_shape, joined, summed
from microtome.dictionaries.kernels.topk import top_k
from microtome.dictionaries.nonlinearity import check_k
from microtome.errors import DictionaryInvalid, ModelUnsupported, nearest
from microtome.models import Model, Site
from microtome.shapes import Float, Tensor


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "gelu_tanh": _gelu_tanh, "relu": F.relu}
"""Activation functions of MLPs by the names under which they are stored."""
_PROBE_TOKENS = 32


@final
class Neurons(Dictionary):
    """Each neuron of an MLP is a feature that reads `mlp_in` and writes `mlp_out`; the `k` that write most are kept a row.

    a = act(W_enc x + b_enc), times (W_up x + b_up) where the MLP has a second map;  y_hat = W_dec^T a + b_dec. A row keeps the k largest
    |a| |W_dec row|, with their signs; with k = d_dict the reconstruction is the MLP itself. The encoder direction of a neuron is its row of W_enc.
    """

    pooling = "token"

    def __init__(self, *, reads: Site, writes: Site, activation: str, k: int, weights: Mapping[str, Tensor]) -> None:
        self.d_dict, self.d_in = encoder_shape(weights, "the neurons of an MLP")
        if activation not in ACTIVATIONS:
            wanted, do = ", ".join(ACTIVATIONS), nearest(activation, ACTIVATIONS)
            raise DictionaryInvalid(f'no activation function is called "{activation}".', got=activation, wanted=wanted, do=do)
        check_k(k)
        self.d_out = weights["W_dec"].shape[-1] if "W_dec" in weights else 0
        matrix, features = (self.d_dict, self.d_in), (self.d_dict,)
        shapes = {"W_enc": matrix, "b_enc": features, "W_dec": (self.d_dict, self.d_out), "b_dec": (self.d_out,), "W_up": matrix, "b_up": features}
        self._weights = checked_weights(weights, shapes, kind="the neurons of an MLP", optional=("W_up", "b_up"))
        if ("W_up" in weights) != ("b_up" in weights):
            raise DictionaryInvalid("W_up and b_up come together.", got=", ".join(sorted(weights)), wanted="both or none", do="Give both.")
        self.reads = reads
        self.writes = (writes,)
        self.activation = activation
        self.k = k
        self._norms = self._weights["W_dec"].norm(dim=1)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        """See `Dictionary.encode`; in blocks of rows."""
        self.fits(x)
        return joined([self._kept(self.values(rows)) for rows in blocks_of(x, self.d_dict)])

    def values(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_dict"]:
        """What every neuron gives, kept or not."""
        own = self._weights
        rows = x.to(own["W_enc"].dtype)
        values = ACTIVATIONS[self.activation](F.linear(rows, own["W_enc"], own["b_enc"]))
        return values * F.linear(rows, own["W_up"], own["b_up"]) if "W_up" in own else values

    @torch.no_grad()
    def decode(self, codes: SparseCodes, *, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        self.written(write)
        return summed(codes, self._weights["W_dec"]).add_(self._weights["b_dec"])

    def directions(self, *, write: Site | None = None) -> Float[Tensor, "d_dict d_out"]:
        self.written(write)
        return self._weights["W_dec"]

    def encoder_directions(self) -> Float[Tensor, "d_dict d_in"]:
        return self._weights["W_enc"]

    def weights(self) -> dict[str, Tensor]:
        """All tensors by their stored names."""
        return dict(self._weights)

    def to(self, device: torch.device | str) -> "Neurons":
        """The same control with its weights on another device."""
        moved = {name: weight.to(device) for name, weight in self._weights.items()}
        return Neurons(reads=self.reads, writes=self.writes[0], activation=self.activation, k=self.k, weights=moved)

    def _kept(self, values: Float[Tensor, "n d_dict"]) -> SparseCodes:
        indices = top_k(values.abs() * self._norms, self.k)
        return SparseCodes(indices, values.gather(1, indices), self.d_dict)


@torch.no_grad()
def neurons(model: Model, layer: int, *, k: int) -> Neurons:
    """The MLP of a layer as a dictionary of its neurons, `k` of them a token.

    Its maps are found by their shapes and its activation function by what the model computes on some tokens; an MLP whose output at `mlp_out` is
    not its neurons' sum (a norm after it, experts) raises `ModelUnsupported`, as `SiteNotFound` does for a layer that is not there.
    """
    reads, writes = model.site(Site("mlp_in", layer)), model.site(Site("mlp_out", layer))
    weights = _maps(model.module(reads))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.n_vocab, (1, min(_PROBE_TOKENS, model.max_context)), generator=generator)
    seen = {site: found[0].float() for site, found in model.capture(tokens, [reads, writes]).items()}
    wanted = seen[writes]
    best: Neurons | None = None
    least = 0.02
    for activation in ACTIVATIONS if weights else ():
        made = Neurons(reads=reads, writes=writes, activation=activation, k=k, weights=weights)
        made_of = made.values(seen[reads]) @ made.directions() + weights["b_dec"]
        error = float((made_of - wanted).norm() / wanted.norm())
        if error < least:
            best, least = made, error
    if best is None:
        got = f"layer {layer} of {model.ref} ({model.family})"
        do = "Compare with another control: random, k-means, PCA or the mean."
        raise ModelUnsupported(
            "the MLP is not a sum over its neurons.", got=got, wanted="act(W x) W', or act(W x) (V x) W', and no norm after it", do=do
        )
    return best


def _maps(mlp: nn.Module) -> dict[str, Tensor]:
    """The MLP's weights under our names, or nothing where it has another form."""
    maps = [module for module in mlp.modules() if _is_map(module)]
    if len(maps) not in (2, 3):
        return {}
    *inner, last = maps
    W_dec, b_dec = _map(last)
    down = {"W_dec": W_dec.T.contiguous(), "b_dec": b_dec}
    parts = [_map(module) for module in inner]
    if len(parts) == 1 and len(parts[0][1]) == 2 * W_dec.shape[1]:  # one map holds both halves
        weight, bias = parts[0]
        parts = list(zip(weight.chunk(2), bias.chunk(2), strict=True))
    if any(len(bias) != W_dec.shape[1] for _, bias in parts):
        return {}
    names = (("W_enc", "b_enc"), ("W_up", "b_up"))
    up = {name: tensor.clone() for pair, found in zip(names, parts, strict=False) for name, tensor in zip(pair, found, strict=True)}
    return {**up, **down}


def _is_map(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2


def _map(module: nn.Module) -> tuple[Tensor, Tensor]:
    """(weight [out, in], bias [out]) of a linear map; GPT-2 stores its weights transposed."""
    weight = torch.as_tensor(module.weight).detach().float()
    weight = weight if isinstance(module, nn.Linear) else weight.T
    bias = getattr(module, "bias", None)
    return weight.contiguous(), torch.zeros(len(weight), device=weight.device) if bias is None else bias.detach().float()
