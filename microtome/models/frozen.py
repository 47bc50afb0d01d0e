"""A prompt's forward with everything held that is not linear: attention patterns, the scales of norms, and what MLPs write.

What is left is an affine map from every write to the residual stream to everything read from it later, so that an effect is a product and effects
add up (Ameisen et al. 2025, "Circuit tracing", local replacement model). The modules stay Hugging Face's own: attention goes through their
`AttentionInterface` with the queries and keys of the clean forward, norms are hooked, and MLPs are edited with `Model.tap`.
"""

import sys
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any, NamedTuple, TypeAlias, cast, final
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from microtome.errors import ActivationsNotFinite, ModelUnsupported
from microtome.models.discover import is_norm
from microtome.models.model import Model, gain_of
from microtome.models.sites import Site
from microtome.models.tap import Edit
from microtome.shapes import Float, Int, Tensor

_NAME = "microtome_held"
"""The attention implementation that holds patterns; inert outside of a `Frozen`."""
_LOOSE = 1e-3
"""A norm whose output is not gain · scale · input + bias up to this share is none."""
_Attend: TypeAlias = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class HeldNorm:
    """A norm with its scales held: y = gain · C x · scale + bias, C = 1 − mean if it centres."""

    gain: Float[Tensor, "d_model"]
    bias: Float[Tensor, "d_model"]
    centres: bool
    scale: Float[Tensor, "pos"]
    """1 / root mean square (or standard deviation) at each position of the clean forward."""

    def forward(self, x: Float[Tensor, "*rows pos d_model"]) -> Float[Tensor, "*rows pos d_model"]:
        """The held norm's output."""
        centred = x - x.mean(-1, keepdim=True) if self.centres else x
        return self.gain * centred * self.scale[:, None] + self.bias

    def back(self, vectors: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """The gradient by the input of ⟨vector, output⟩, up to the position's scale: C (gain · v)."""
        rows = vectors * self.gain
        return rows - rows.mean(-1, keepdim=True) if self.centres else rows


class Gain(NamedTuple):
    """What a norm does to a row of root mean square 1."""

    gain: Tensor
    bias: Tensor
    centres: bool


class Attended(NamedTuple):
    """What a layer's attention was called with, in the clean forward."""

    query: Tensor
    key: Tensor
    mask: Tensor | None
    kwargs: Mapping[str, Any]


class Live(NamedTuple):
    """Vectors that reached a layer's attention, `[1 heads pos width]`."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(kw_only=True)
class _Held:
    """What one forward does at attention and norms; the first records, later ones hold."""

    recording: bool
    gains: Mapping[nn.Module, Gain]
    attended: dict[nn.Module, Attended] = field(default_factory=lambda: {})
    norms: dict[nn.Module, HeldNorm] = field(default_factory=lambda: {})
    live: dict[nn.Module, Live] = field(default_factory=lambda: {})
    """By attention module, what its function was last called with, before the clean queries and keys take its place."""


_HELD: ContextVar[_Held | None] = ContextVar("microtome_held", default=None)
_ONE = RLock()
"""The attention implementation is a setting of the model: one at a time changes it."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A held forward."""

    values: Mapping[Site, Float[Tensor, "pos width"]]
    """What was to be read."""
    leaves: Mapping[Site, Float[Tensor, "1 pos d_model"]]
    """Zeros that were added to the writes at these sites, for gradients."""


@final
class Frozen:
    """Records a clean forward of one prompt, and runs it again with patterns, norm scales and MLP outputs held.

    `skips` are linear maps `[d_model, width of mlp_in]` by layer that stay live beside the held MLP: its output becomes what it was, plus the map
    of the change of what it reads. Raises `ModelUnsupported` for a family whose attention cannot be held (not behind Hugging Face's
    `AttentionInterface`, or layers of another kind), `TokenOutOfRange`, and `ActivationsNotFinite`.
    """

    def __init__(
        self,
        model: Model,
        tokens: Int[Tensor, "pos"],
        *,
        read: Collection[Site] = (),
        logits_at: Collection[int] = (),
        skips: Mapping[int, Float[Tensor, "d_model d_in"]] | None = None,
    ) -> None:
        self.model = model
        self.tokens = tokens
        self.skips = dict(skips or {})
        self._attention = [model.module(Site("attn_in", layer)) for layer in range(model.n_layers)]
        self._refuse_unknown()
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])  # without one there is no causal mask at all
        self._norms = {site: model.norm_module(site) for site in model.sites()}
        like = torch.zeros(model.d_model, dtype=model.dtype, device=model.device)
        gains = {module: Gain(*gain_of(module, like)) for module in self._norms.values() if module is not None}
        self._held = _Held(recording=True, gains=gains)
        held = {Site("mlp_out", layer) for layer in range(model.n_layers)} | {Site("mlp_in", layer) for layer in self.skips}
        positions = torch.tensor(sorted(set(logits_at)) or [len(tokens) - 1], device=model.device)
        inputs = model._inputs(tokens[None], None)
        with torch.no_grad(), self._open(), model.tap(read={*read, *held}) as seen:
            out = model.hf(**inputs, use_cache=False, logits_to_keep=positions)
        missing = [layer for layer, module in enumerate(self._attention) if module not in self._held.attended]
        if missing:
            raise _unsupported(model, f"layer {missing[0]} does not attend through it", wanted="attention in every layer")
        self._held.recording = False
        self.clean: dict[Site, Float[Tensor, "pos width"]] = {site: value[0] for site, value in seen.items()}
        """What was read in the clean forward, and every MLP's write."""
        self.logits: dict[int, Float[Tensor, "vocab"]] = dict(zip(positions.tolist(), out.logits[0].float(), strict=True))
        """The model's own logits at the positions asked for."""
        self._refuse_broken()

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    def norm(self, site: Site) -> HeldNorm | None:
        """The held norm that a site (`attn_in`, `mlp_in`, `final_norm`) is read after, or that writes `attn_out`; None where there is none."""
        module = self._norms[self.model.site(site)]
        return None if module is None else self._held.norms[module]

    @torch.no_grad()
    def pattern(self, layer: int, *, first: int = 0, last: int | None = None) -> Float[Tensor, "heads written read"]:
        """The attention pattern, computed again from the clean queries and keys by the family's own function.

        Of the positions `first` to `last` (all of them unless given) on those that they can see, which end at `last`.
        """
        module = self._attention[layer]
        query, key, mask, kwargs = self._held.attended[module]
        last = self.n_tokens if last is None else last
        whole = mask is None or mask.shape[-2:] != (self.n_tokens, self.n_tokens)  # nothing says what a part of the positions may see
        rows, read = (slice(None), slice(None)) if whole else (slice(first, last), slice(last))
        key, mask = key[:, :, read], mask if mask is None or whole else mask[..., rows, read]
        nothing = key.new_zeros(*key.shape[:-1], 1)
        made = _eager(module)(module, query[:, :, rows], key, nothing, mask, **kwargs)[1][0]
        return made[:, first:last, :last] if whole else made

    def run(
        self,
        *,
        read: Collection[Site] = (),
        leaves: Collection[Site] = (),
        bump: Mapping[Site, Float[Tensor, "pos d_model"]] | None = None,
        zeroed: Collection[Site] = (),
    ) -> Ran:
        """The held forward, without logits: equal to the clean one, but affine in what is added at sites.

        `bump` is added to what is written at (or, for `resid_pre`, read from the stream at) a site; at `leaves` zeros are added that gradients can
        be taken by; at `zeroed` sites of kind `resid_pre` the stream begins anew at 0.
        """
        made = {site: torch.zeros(1, self.n_tokens, self.model.width(site), dtype=self.model.dtype, device=self.model.device) for site in leaves}
        for leaf in made.values():
            leaf.requires_grad_()
        edits = self._edits(made, bump or {}, frozenset(zeroed))
        inputs = self.model._inputs(self.tokens[None], None)
        with torch.set_grad_enabled(bool(made)), self._open(), self.model.tap(read=read, edit=edits) as seen:
            self.model.hf(**inputs, use_cache=False, logits_to_keep=1)
            return Ran(values={site: seen[site][0] for site in read}, leaves=made)

    def constants(self) -> list[Float[Tensor, "pos d_model"]]:
        """By layer, what attention writes when it reads a stream of zeros: biases of values, projections and norms, through the held patterns."""
        if not self._has_constants():
            nothing = torch.zeros(self.n_tokens, self.model.d_model, device=self.model.device)
            return [nothing] * self.model.n_layers
        sites = [Site("attn_out", layer) for layer in range(self.model.n_layers)]
        ran = self.run(read=sites, zeroed=[Site("resid_pre", layer) for layer in range(self.model.n_layers)])
        return [ran.values[site].float() for site in sites]

    def _has_constants(self) -> bool:
        """Whether attention or a norm beside it has a bias at all."""
        inside = (module for attention in self._attention for module in attention.modules() if not is_norm(module))
        kinds = ("attn_in", "attn_out")
        norms = [norm for site in self._norms if site.kind in kinds if (norm := self.norm(site)) is not None]
        return any(bool(norm.bias.any()) for norm in norms) or any(p.ndim < 2 for module in inside for p in module.parameters(recurse=False))

    def _edits(self, leaves: Mapping[Site, Tensor], bump: Mapping[Site, Tensor], zeroed: frozenset[Site]) -> dict[Site, Edit]:
        inputs: dict[int, Tensor] = {}
        places = {Site("mlp_out", layer) for layer in range(self.model.n_layers)} | set(leaves) | set(bump) | zeroed
        edits: dict[Site, Edit] = {}
        for site in places:
            added = [item[None] if item.ndim == 2 else item for item in (leaves.get(site), bump.get(site)) if item is not None]
            edits[site] = self._edit(site, added, inputs=inputs, zero=site in zeroed)
        for layer in self.skips:
            edits[Site("mlp_in", layer)] = _noting(inputs, layer)
        return edits

    def _edit(self, site: Site, added: list[Tensor], *, inputs: Mapping[int, Tensor], zero: bool) -> Edit:
        def edit(x: Tensor) -> Tensor:
            value = torch.zeros_like(x) if zero else x
            if site.kind == "mlp_out":
                assert site.layer is not None
                value = self.clean[site][None]
                skip = self.skips.get(site.layer)
                if skip is not None:
                    value = value + (inputs[site.layer] - self.clean[Site("mlp_in", site.layer)]) @ skip.T.to(x)
            for item in added:
                value = value + item
            return value.clone() if value is self.clean.get(site) else value

        return edit

    @contextmanager
    def holding(self, *, patterns: bool = True, norms: bool = True) -> Generator[None]:
        """Within it, this thread's forwards of the same tokens, in any number of rows, run with the clean patterns and, by choice, norm scales.

        MLPs respond, unless an edit holds them.
        """
        with self._open(patterns=patterns, norms=norms):
            yield

    @contextmanager
    def _open(self, *, patterns: bool = True, norms: bool = True) -> Generator[None]:
        """Within it, this thread's forwards of the model attend through `_attend` and meet the norm hooks."""
        hf, held = self.model.hf, self._held if patterns else replace(self._held, attended={})
        with _ONE:
            before, token = hf.config._attn_implementation, _HELD.set(held)
            modules = held.gains if norms else ()
            hooks = [module.register_forward_hook(_norm_hook, prepend=True) for module in modules]  # taps read what is held
            try:
                hf.set_attn_implementation(_NAME)
                yield
            finally:
                hf.set_attn_implementation(before or "eager")
                for hook in hooks:
                    hook.remove()
                _HELD.reset(token)

    def _refuse_unknown(self) -> None:
        if not self.model.hf._can_set_attn_implementation():
            raise _unsupported(self.model, "its attention is not behind Hugging Face's AttentionInterface", wanted="a family that is")
        for module in self._attention:
            _eager(module, self.model)

    def _refuse_broken(self) -> None:
        for site, value in self.clean.items():
            if not bool(value.isfinite().all()):
                position = int((~value.isfinite()).any(-1).nonzero()[0, 0])
                got, do = f"{site}, position {position}", "Load the model in float32 or bfloat16."
                raise ActivationsNotFinite("the model's activations are not finite on this prompt.", got=got, wanted="finite numbers", do=do)


_MAPS: WeakKeyDictionary[Model, list[Tensor] | None] = WeakKeyDictionary()
_KEPT_BYTES = 1 << 28
"""Value maps of a model are kept with it up to this size."""


def value_maps(model: Model) -> list[Float[Tensor, "kv_width d_model"]] | None:
    """By layer, the linear map from what attention reads to its value vectors (heads side by side); None where the map is another.

    Found by gradients of the value vectors that reach the attention function, so it holds for any split or fused projection.
    """
    if model in _MAPS:
        return _MAPS[model]
    tokens = torch.tensor([7, 8, 9], device=model.device) % model.n_vocab
    frozen = Frozen(model, tokens)
    inputs: dict[int, Tensor] = {}
    sites = [Site("attn_in", layer) for layer in range(model.n_layers)]
    edits: dict[Site, Edit] = {site: _leaf_noting(inputs, layer) for layer, site in enumerate(sites)}
    with torch.enable_grad(), frozen._open(), model.tap(edit=edits):
        model.hf(**model._inputs(tokens[None], None), use_cache=False, logits_to_keep=1)
        found = _jacobians([frozen._held.live[module].value for module in frozen._attention], [inputs[layer] for layer in range(model.n_layers)])
    if found is None or 4 * sum(map.numel() for map in found) <= _KEPT_BYTES:
        _MAPS[model] = found
    return found


def _jacobians(values: list[Tensor], inputs: list[Tensor]) -> list[Tensor] | None:
    maps: list[Tensor] = []
    for value, x in zip(values, inputs, strict=True):
        width = value.shape[1] * value.shape[3]
        seeds = torch.eye(width, dtype=value.dtype, device=value.device).reshape(width, value.shape[1], value.shape[3])
        (found,) = torch.autograd.grad(value[0, :, 0], x, seeds, is_grads_batched=True, allow_unused=False)
        map = found[:, 0, 0].float()
        made = value[0].detach().float().transpose(0, 1).flatten(1)
        rest = made - x[0].detach().float() @ map.T
        loose = 1e-3 if value.dtype in (torch.float32, torch.float64) else 5e-2
        if float((rest - rest[:1]).abs().max()) > loose * float(made.abs().max()) or bool(found[:, 0, 1:].any()):
            return None
        maps.append(map)
    return maps


def _attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> tuple[Tensor, Tensor | None]:  # noqa: PLR0917  # transformers calls it so
    held = _HELD.get()
    if held is None:  # another thread's forward
        from_before = mask is None or mask.dtype == torch.bool  # it began before the setting changed: its mask is not one for eager attention
        attend = cast("_Attend", ALL_ATTENTION_FUNCTIONS["sdpa"]) if from_before else _eager(module)
        return attend(module, query, key, value, mask, **kwargs)
    held.live[module] = Live(query, key, value)
    if held.recording:
        held.attended[module] = Attended(query.detach(), key.detach(), mask, kwargs)
        return _eager(module)(module, query, key, value, mask, **kwargs)
    clean = held.attended.get(module, Attended(query, key, mask, kwargs))
    return _eager(module)(module, clean.query, clean.key, value, clean.mask, **clean.kwargs)


def _norm_hook(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor | None:
    held = _HELD.get()
    if held is None:
        return None
    if not held.recording:
        return held.norms[module].forward(args[0]).to(out.dtype)
    held.norms[module] = _measured(held.gains[module], args[0], out)
    return None


@torch.no_grad()
def _measured(known: Gain, x: Tensor, y: Tensor) -> HeldNorm:
    """The norm between x and y, its scale at each position by least squares: no epsilon is guessed."""
    gain, bias, centres = known
    wide = torch.float64 if x.device.type != "mps" else torch.float32
    stream, made = x[0].to(wide), y[0].to(wide) - bias.to(wide)
    folded = gain.to(wide) * (stream - stream.mean(-1, keepdim=True) if centres else stream)
    scale = (folded * made).sum(-1) / folded.square().sum(-1).clamp_min(1e-30)
    off = (scale[:, None] * folded - made).norm() / made.norm().clamp_min(1e-30)
    if float(off) > (_LOOSE if y.dtype in (torch.float32, torch.float64) else 5e-2):
        got = f"off by {float(off):.2g}"
        raise ModelUnsupported("a norm of this model is not gain · scale · input + bias.", got=got, wanted="an RMSNorm or a LayerNorm", do=_DO)
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return HeldNorm(gain=gain.to(kind), bias=bias.to(kind), centres=centres, scale=scale.to(kind))


def _noting(inputs: dict[int, Tensor], layer: int) -> Edit:
    def note(x: Tensor) -> None:
        inputs[layer] = x

    return note


def _leaf_noting(inputs: dict[int, Tensor], layer: int) -> Edit:
    def note(x: Tensor) -> Tensor:
        inputs[layer] = x.detach().clone().requires_grad_()
        return inputs[layer]

    return note


def _eager(module: nn.Module, model: Model | None = None) -> _Attend:
    """The family's own eager attention, which knows its soft caps, windows and sinks."""
    found = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if found is None:
        assert model is not None
        raise _unsupported(model, "it has no eager attention function", wanted="a family that has one")
    return cast("_Attend", found)


_DO = "Trace a model of a family that is known to hold: Llama, Mistral, Qwen2, Qwen3, Gemma 2, Gemma 3, GPT-2, GPT-NeoX, OLMo 2, Phi-3."


def _unsupported(model: Model, why: str, *, wanted: str) -> ModelUnsupported:
    return ModelUnsupported(f"the attention of {model.family} cannot be held: {why}.", got=model.ref, wanted=wanted, do=_DO)


__all__ = ["Attended", "Frozen", "HeldNorm", "Ran", "is_norm", "value_maps"]
