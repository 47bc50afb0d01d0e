"""Finds a model's sites by following tensors through one tiny forward; no table of architectures.

Which module's output *is* which module's input (identity of tensors) says what feeds what. Then the rule on which everything else rests
is checked in every layer: residual out − residual in = attention write + MLP write. A family that breaks it is refused by name.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from microtome.errors import ModelUnsupported
from microtome.models.sites import Site
from microtome.shapes import Tensor

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|feed_forward|moe|block_sparse_moe|shared_mlp", re.IGNORECASE)
_NORM = re.compile(r"norm", re.IGNORECASE)
_PROBE_TOKENS = (7, 8, 9, 10, 11)


@dataclass(frozen=True)
class Place:
    """Where a site is found: a module's input or output, times a multiplier that the block applies outside of the module."""

    module: nn.Module
    side: Literal["in", "out"]
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SiteMap:
    """All sites of a model."""

    places: Mapping[Site, Place]
    widths: Mapping[Site, int]
    """Last axis of the tensor at each site."""
    n_layers: int
    is_parallel: bool
    """Attention and MLP both read the block's input (GPT-NeoX), so nothing reads a `resid_mid`."""
    final_norm: nn.Module
    norms: Mapping[Site, nn.Module]
    """The norm whose output is read at a site; a site that is read without one is not in it."""


class Write(NamedTuple):
    module: nn.Module
    value: Tensor


@dataclass(kw_only=True)
class _Trace:
    """What went into and came out of every module in one forward; references are kept, so that identities stay unique."""

    order: list[nn.Module] = field(default_factory=lambda: [])
    ins: dict[nn.Module, Tensor | None] = field(default_factory=lambda: {})
    outs: dict[nn.Module, Tensor | None] = field(default_factory=lambda: {})
    copies: dict[nn.Module, Tensor] = field(default_factory=lambda: {})
    """Outputs as they were before anything could add to them in place."""

    def note(self, module: nn.Module, *, into: Tensor | None, out: Tensor | None) -> None:
        self.order.append(module)
        self.ins[module], self.outs[module] = into, out
        if out is not None:
            self.copies[module] = out.clone()

    def norm_eating(self, value: Tensor | None, among: Collection[nn.Module]) -> nn.Module | None:
        """The norm, of those, that reads `value`."""
        readers = (m for m in self.order if m in among and is_norm(m) and value is not None and self.ins[m] is value)
        return next(readers, None)

    def norm_feeding(self, value: Tensor | None) -> nn.Module | None:
        """The norm whose output `value` is."""
        return next((m for m in self.order if is_norm(m) and value is not None and self.outs[m] is value), None)


def leading_tensor(out: Any) -> Tensor | None:
    """The hidden states of a module's output: the tensor, or the first one of a tuple."""
    if isinstance(out, Tensor):
        return out
    return next((item for item in out if isinstance(item, Tensor)), None) if isinstance(out, tuple | list) else None


def hidden_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The hidden states of a module's input, however they were passed."""
    if isinstance(kwargs.get("hidden_states"), Tensor):
        return kwargs["hidden_states"]
    return leading_tensor(args) if args else leading_tensor(tuple(kwargs.values()))


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises, by the name of its class."""
    return bool(_NORM.search(type(module).__name__))


def exact(value: Tensor) -> Tensor:
    """The same numbers in float64 on the CPU, for comparisons: Apple's GPU has no float64."""
    return value.detach().cpu().double()


def embedding_of(hf: PreTrainedModel) -> Tensor:
    """The token embedding, a row a token id."""
    weight = hf.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def discover(hf: PreTrainedModel) -> SiteMap:
    """The sites of `hf`; raises `ModelUnsupported` when the rule does not hold or a part cannot be found."""
    family = str(hf.config.model_type)
    if hasattr(hf, "_orig_mod"):
        raise _unsupported(family, "it is compiled, and compiled models do not look at taps", wanted="an uncompiled model")
    blocks = _blocks(hf, family)
    trace = _run_traced(hf)
    embed, final_norm = hf.get_input_embeddings(), trace.norm_eating(trace.outs.get(blocks[-1]), trace.ins.keys())
    if final_norm is None:
        raise _unsupported(family, "no norm reads the last block's output", wanted="a final norm")
    places = {Site("embed"): Place(embed, "out"), Site("final_norm"): Place(final_norm, "out")}
    norms = {Site("final_norm"): final_norm}
    parallel = [_add_block(places, trace, blocks, layer=layer, hf=hf) for layer in range(len(blocks))]
    for site, place in places.items():
        norm = trace.norm_feeding(trace.ins[place.module]) if site.kind in ("attn_in", "mlp_in") else None
        if norm is not None:
            norms[site] = norm
    if not any(parallel):
        places |= {Site("resid_mid", layer): places[Site("attn_out", layer)] for layer in range(len(blocks))}
    widths = {site: _width(trace, place) for site, place in places.items()}
    ordered = dict(sorted(places.items()))
    return SiteMap(places=ordered, widths=widths, n_layers=len(blocks), is_parallel=any(parallel), final_norm=final_norm, norms=norms)


def _blocks(hf: PreTrainedModel, family: str) -> Sequence[nn.Module]:
    stacks = [module for module in hf.modules() if isinstance(module, nn.ModuleList) and len(module) > 0]
    of_blocks = [stack for stack in stacks if len({type(block) for block in stack}) == 1 and any(True for _ in stack[0].children())]
    if not of_blocks:
        raise _unsupported(family, "no stack of equal blocks was found in it", wanted="a decoder of blocks")
    expected = getattr(hf.config.get_text_config(), "num_hidden_layers", None)
    return list(next((stack for stack in of_blocks if len(stack) == expected), of_blocks[0]))


def _run_traced(hf: PreTrainedModel) -> _Trace:
    trace = _Trace()
    weight = embedding_of(hf)
    tokens = torch.tensor([[token % len(weight) for token in _PROBE_TOKENS]], device=weight.device)

    def spy(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:  # noqa: PLR0917  # torch calls it so
        trace.note(module, into=hidden_of(args, kwargs), out=leading_tensor(out))

    handles = [module.register_forward_hook(spy, with_kwargs=True) for module in hf.modules()]
    try:
        with torch.no_grad():
            hf(input_ids=tokens, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _add_block(places: dict[Site, Place], trace: _Trace, blocks: Sequence[nn.Module], *, layer: int, hf: PreTrainedModel) -> bool:
    """Add one block's sites to `places`; says whether its attention and MLP run in parallel."""
    family, block = str(hf.config.model_type), blocks[layer]
    parts = {name: module for name, module in block.named_modules() if name and name.count(".") <= 1 and module in trace.outs}
    attention = _first(module for name, module in parts.items() if _ATTENTION.search(name) and _is_compound(module))
    mlp = _first(module for name, module in parts.items() if _MLP.fullmatch(name))
    mlp_reader, mlp_writer = mlp or parts.get("fc1"), mlp or parts.get("fc2")  # OPT has no module around its two maps
    if attention is None or mlp_reader is None or mlp_writer is None:
        missing = "attention" if attention is None else "MLP"
        raise _unsupported(family, f"no {missing} was found in layer {layer}", wanted="blocks of attention and MLP")
    attn_write, mlp_write = _write(trace, attention, parts, before=mlp_reader), _write(trace, mlp_writer, parts, before=None)
    scale = _check_rule(trace, block, writes=(attn_write, mlp_write), where=_Where(family=family, layer=layer, config=hf.config.to_dict()))
    places |= {
        Site("resid_pre", layer): Place(block, "in"),
        Site("attn_in", layer): Place(attention, "in"),
        Site("attn_out", layer): Place(attn_write.module, "out", scale),
        Site("mlp_in", layer): Place(mlp_reader, "in"),
        Site("mlp_out", layer): Place(mlp_write.module, "out", scale),
        Site("resid_post", layer): Place(block, "out"),
    }
    projection = _projection(trace, attention)
    if projection is not None:
        places[Site("attn_heads", layer)] = Place(projection, "in")
    norm = trace.norm_feeding(trace.ins[mlp_reader])
    stream = trace.ins[norm] if norm is not None else trace.ins[mlp_reader]
    return stream is trace.ins[block] or trace.ins[mlp_reader] is trace.ins[attention]


def _write(trace: _Trace, part: nn.Module, parts: Mapping[str, nn.Module], *, before: nn.Module | None) -> Write:
    """The module whose output is added to the residual stream: the part itself, or the post-norm that reads it."""
    post = trace.norm_eating(trace.outs[part], set(parts.values()))
    feeds_next = post is not None and before is not None and trace.outs[post] is trace.ins[before]
    module = part if post is None or feeds_next else post
    return Write(module, trace.copies[module])


def _projection(trace: _Trace, attention: nn.Module) -> nn.Module | None:
    maps = [m for m in attention.modules() if (isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D") and m in trace.outs]
    of_output = [m for m in maps if trace.outs[m] is trace.outs[attention]]
    width = trace.copies[attention].shape[-1]
    return _first(of_output) or _first(m for m in reversed(maps) if trace.copies[m].shape[-1] == width)


class _Where(NamedTuple):
    family: str
    layer: int
    config: Mapping[str, Any]


def _check_rule(trace: _Trace, block: nn.Module, *, writes: tuple[Write, Write], where: _Where) -> float:
    """The multiplier s of residual out − residual in = s · (attention write + MLP write), or `ModelUnsupported`."""
    attn, mlp = writes
    before, after = trace.ins[block], trace.copies.get(block)
    if before is None or after is None or attn.value.numel() != mlp.value.numel():
        raise _unsupported(where.family, f"the writes of layer {where.layer} have no common shape", wanted="residual = sum of parts")
    tolerance = 4 * torch.finfo(after.dtype).eps ** 0.75 * max(1.0, after.abs().max().item())
    step = (exact(after) - exact(before)).reshape(after.shape)
    written = exact(attn.value).reshape(after.shape) + exact(mlp.value).reshape(after.shape)
    scale = 1.0
    if (step - written).abs().max().item() > tolerance:
        scale = _snap(((step * written).sum() / written.square().sum().clamp_min(1e-30)).item(), where.config)
    off = (step - scale * written).abs().max().item()
    if not off <= tolerance:
        got = f"layer {where.layer}: residual out − residual in differs from attention write + MLP write by {off:.2g}"
        raise _unsupported(where.family, "it breaks the rule residual = sum of parts", wanted=f"at most {tolerance:.2g}", got=got)
    return scale


def _snap(scale: float, config: Mapping[str, Any]) -> float:
    """The number in the model's config that the estimate means (its residual multiplier), else the estimate."""
    numbers = [float(value) for value in config.values() if isinstance(value, float) and value and abs(scale / value - 1) < 1e-2]
    return min(numbers, key=lambda value: abs(scale - value), default=scale)


def _width(trace: _Trace, place: Place) -> int:
    value = trace.ins[place.module] if place.side == "in" else trace.outs[place.module]
    assert value is not None
    return int(value.shape[-1])


def _is_compound(module: nn.Module) -> bool:
    return not is_norm(module) and any(True for _ in module.children())


def _first(modules: Iterable[nn.Module]) -> nn.Module | None:
    return next(iter(modules), None)


def _unsupported(family: str, why: str, *, wanted: str, got: str | None = None) -> ModelUnsupported:
    do = "Use a decoder whose blocks only add attention and MLP outputs to the residual stream (Llama, Qwen, Gemma, GPT-2, …)."
    return ModelUnsupported(f"models of the family {family} cannot be tapped: {why}.", got=got or family, wanted=wanted, do=do)
