"""A loaded language model: plain Hugging Face modules, their sites, and the few forwards that the other rooms need."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from microtome.config import canonical_json
from microtome.devices import RunAll, core_workers
from microtome.errors import ModelTapped, ModelUnsupported, SiteNotFound, TokenOutOfRange, nearest
from microtome.models.discover import discover, embedding_of, is_norm
from microtome.models.sites import Site
from microtome.models.tap import Edit, Taps
from microtome.models.tokens import Tokenizer
from microtome.shapes import Bool, Float, Int, Tensor

_SAMPLES = 512
"""Values of each weight that go into the fingerprint, evenly spaced."""
_TOKENS_AT_ONCE = 16_384
"""Rows of the unembedding that are there in float32 at once, where they are not anyway."""


@dataclass(frozen=True, kw_only=True)
class ReadNorm:
    """The norm between the residual stream and a site that is read after it: x = gain · (C r) · scale + bias, with C = 1 − mean if it centres.

    The scale is the only part that depends on the token: 1 / root mean square of C r, up to the norm's epsilon.
    """

    stream: Site
    """Where r is."""
    gain: Float[Tensor, "d_model"]
    bias: Float[Tensor, "d_model"]
    centres: bool
    """A LayerNorm does, an RMSNorm does not."""

    def fold(self, vectors: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What a vector added to the residual stream adds at the site, up to the scale: gain · C v."""
        return self.gain * (vectors - vectors.mean(-1, keepdim=True) if self.centres else vectors)

    def scale(self, stream: Float[Tensor, "*rows d_model"], read: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows"]:
        """The scale of each token, from both sides of the norm (no epsilon is guessed): s of `read` − bias = s · gain · C r by least squares."""
        folded = self.fold(stream.float())
        return (folded * (read.float() - self.bias)).sum(-1) / folded.square().sum(-1).clamp_min(1e-30)


class Model:
    """A causal language model with named sites.

    Made by `load` or `tiny`; `Model(hf, tokenizer, ref=…)` wraps a model that is already in memory. The modules stay Hugging Face's own
    (`.hf`): nothing is copied or renamed, and values are theirs to the bit.
    """

    def __init__(self, hf: PreTrainedModel, tokenizer: Tokenizer, *, ref: str, quantised: str | None = None) -> None:
        self.hf = hf
        self.tokenizer = tokenizer
        self.ref = ref
        self.quantised = quantised
        """What the weights were rounded to before they came here (`Q4_1`), to be shown beside every figure; None for as trained."""
        self._map = discover(hf)
        self._taps = Taps(self._map.places)

    @property
    def family(self) -> str:
        """Hugging Face's name of the architecture, e.g. `llama`."""
        return str(self.hf.config.model_type)

    @property
    def n_layers(self) -> int:
        return self._map.n_layers

    @property
    def d_model(self) -> int:
        return self._map.widths[Site("resid_post", 0)]

    @property
    def n_vocab(self) -> int:
        """Rows of the embedding: ids run from 0 to one less."""
        return len(embedding_of(self.hf))

    @property
    def max_context(self) -> int:
        """The longest sequence the model takes, in tokens."""
        config = self.hf.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 2**31)

    @property
    def device(self) -> torch.device:
        return embedding_of(self.hf).device

    @property
    def dtype(self) -> torch.dtype:
        return embedding_of(self.hf).dtype

    @property
    def is_parallel(self) -> bool:
        """Whether attention and MLP both read the block's input, so that there is no `resid_mid`."""
        return self._map.is_parallel

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that name these weights in this dtype, this config and this tokenizer.

        Of each weight 512 evenly spaced values are hashed: another model or a fine-tune differs, a single changed number may not.
        """
        digest = hashlib.sha256(self.tokenizer.fingerprint.encode())
        unstable = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "_attn_implementation", "use_cache")
        config = {name: value for name, value in self.hf.config.to_diff_dict().items() if name not in unstable}
        digest.update(canonical_json(_plain(config)).encode())
        for name, weight in sorted(self.hf.named_parameters()):
            flat = weight.detach().reshape(-1)
            picks = torch.linspace(0, flat.numel() - 1, min(_SAMPLES, flat.numel()), dtype=torch.float64).long().to(flat.device)
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            digest.update(flat[picks].float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def sites(self) -> list[Site]:
        """Every site of this model, in the order of a forward."""
        return list(self._map.places)

    def has(self, site: Site) -> bool:
        return site in self._map.places

    def site(self, text: str | Site) -> Site:
        """The site printed as `text`, if this model has it; else `SiteNotFound` with the nearest one that exists."""
        site = Site.parse(text) if isinstance(text, str) else text
        if site in self._map.places:
            return site
        near = Site(site.kind, min(site.layer, self.n_layers - 1)) if site.layer is not None else site
        do = f'Did you mean "{near}"?' if near in self._map.places else nearest(str(site), map(str, self._map.places))
        why = " Its attention and MLP run in parallel, so nothing reads a resid_mid." if self.is_parallel and site.kind == "resid_mid" else ""
        wanted = f"layers L0 to L{self.n_layers - 1}"
        raise SiteNotFound(f'no site "{site}" in {self.ref} ({self.family}, {self.n_layers} layers).{why}', got=str(site), wanted=wanted, do=do)

    def width(self, site: Site) -> int:
        """The size of the last axis at a site."""
        return self._map.widths[self.site(site)]

    def module(self, site: Site) -> nn.Module:
        """The Hugging Face module at whose input or output a site lies."""
        return self._map.places[self.site(site)].module

    def multiplier(self, site: Site) -> float:
        """What the block multiplies the module's output by before it adds it to the stream (Granite's residual multiplier); else 1."""
        return self._map.places[self.site(site)].scale

    def tap(self, *, read: Collection[Site] = (), edit: Mapping[Site, Edit] | None = None) -> AbstractContextManager[Mapping[Site, Tensor]]:
        """Read and edit the forwards that run inside the block, in this thread.

        >>> with model.tap(read=[site], edit={other: lambda x: 0 * x}) as seen:
        ...     model.logits(tokens)
        >>> seen[site]

        Taps nest: edits of the outer one come first, and a reading sees what the model goes on with, after all edits at its site. `resid_mid`
        is read as `resid_pre + attn_out` and edited by editing what the attention writes. Raises `SiteNotFound` for a site that is not here,
        and `ModelUnsupported` when a captured tensor was overwritten in place before the block ended.
        """
        edits = {} if edit is None else edit
        for site in (*read, *edits):
            self.site(site)
        return self._taps.tap(read=read, edit=edits)

    @property
    def is_tapped(self) -> bool:
        """Whether forwards of this thread are read or edited by a `tap` around them; those of other threads are not, so keep them here then."""
        return self._taps.is_open

    def workers(self) -> AbstractContextManager[RunAll]:
        """Who runs several forwards of this model: `core_workers`, and under a `tap`, which other threads would not see, this thread."""
        return nullcontext(map) if self.is_tapped else core_workers(self.device)

    def check_untapped(self, what: str) -> None:
        """Refuse work whose results are kept as those of this model alone, with `ModelTapped`, under a `tap`: nothing that is kept says of edits."""
        if self.is_tapped:
            do = "Do it outside the `with model.tap(…)` block; to read under edits, use `model.capture` or `capture_contexts` inside it."
            raise ModelTapped(f"{what} was begun inside a tap of {self.ref}.", got="a tap around it", wanted="the model as it is", do=do)

    def own_workers(self, what: str) -> AbstractContextManager[RunAll]:
        """`core_workers` for such work. Raises `ModelTapped`."""
        self.check_untapped(what)
        return core_workers(self.device)

    @torch.no_grad()
    def capture(
        self, tokens: Int[Tensor, "batch pos"], sites: Iterable[Site], *, mask: Bool[Tensor, "batch pos"] | None = None
    ) -> dict[Site, Float[Tensor, "batch pos width"]]:
        """Activations at `sites`; the forward ends after the last of them, so later layers and logits cost nothing.

        `mask` is True at real tokens; values at padding mean nothing, and padding on either side changes no real token's value.
        The result is on the model's device, in its dtype. Raises `SiteNotFound`, `TokenOutOfRange`.
        """
        wanted = [self.site(site) for site in sites]
        inputs = self._inputs(tokens, mask)
        if not wanted:
            return {}
        with self._taps.tap(read=wanted, edit={}, stop=True) as seen:
            self.hf(**inputs, use_cache=False)
        return {site: seen[site] for site in wanted}

    def logits(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        edit: Mapping[Site, Edit] | None = None,
        gradients: bool = False,
        last: int = 0,
    ) -> Float[Tensor, "batch kept vocab"]:
        """The model's logits, under `edit` if given; `gradients` lets autograd go back through it to what the edits put in.

        Only those of the `last` positions (0: of all): a large vocabulary makes the others dear.

        Raises `TokenOutOfRange`, `SiteNotFound`.
        """
        inputs = self._inputs(tokens, mask)
        with torch.set_grad_enabled(gradients), self.tap(edit=edit):
            return self.hf(**inputs, use_cache=False, logits_to_keep=last).logits

    @torch.no_grad()
    def loss(
        self, tokens: Int[Tensor, "batch pos"], *, mask: Bool[Tensor, "batch pos"] | None = None, edit: Mapping[Site, Edit] | None = None
    ) -> Float[Tensor, "batch pos-1"]:
        """Cross-entropy of each next token, in nats: entry [b, i] is −log p(tokens[b, i+1] | tokens[b, :i+1]); 0 where either is padding."""
        return next_token_losses(self.logits(tokens, mask=mask, edit=edit), tokens, mask=mask)

    @torch.no_grad()
    def unembed(self) -> Float[Tensor, "vocab d_model"]:
        """One row a token: its logit's gradient by the last residual, up to the final norm's positive scale at a position.

        W · diag(g), centred along d_model if the norm centres, with W the unembedding and g the final norm's gain. Computed anew at each call.
        """
        weight, norm = self._head()
        rows = weight * norm.gain.to(weight)
        return rows - rows.mean(-1, keepdim=True) if norm.centres else rows

    @torch.no_grad()
    def direct_logits(self, vectors: Float[Tensor, "n d_model"], *, out: Float[Tensor, "n vocab"] | None = None) -> Float[Tensor, "n vocab"]:
        """What vectors of the last residual add to every logit, float32: `vectors @ unembed().T` without that copy; written to `out` if given."""
        weight, norm = self._head()
        folded = norm.fold(vectors.to(self.device, torch.float32))
        logits = folded.new_empty(len(folded), len(weight)) if out is None else out
        for start in range(0, len(weight), _TOKENS_AT_ONCE):
            rows = weight[start : start + _TOKENS_AT_ONCE].float()
            torch.mm(folded, rows.T, out=logits[:, start : start + len(rows)])
        return logits

    def _head(self) -> tuple[Float[Tensor, "vocab d_model"], ReadNorm]:
        """The unembedding and the norm before it."""
        head = self.hf.get_output_embeddings()
        if head is None:
            raise ModelUnsupported(f"{self.ref} has no unembedding.", got=self.family, wanted="a language model head", do="Use a causal LM.")
        norm = self.norm(Site("final_norm"))
        assert norm is not None
        return head.weight.detach(), norm

    @torch.no_grad()
    def norm(self, site: Site) -> ReadNorm | None:
        """The norm after which `site` (`attn_in`, `mlp_in`, `final_norm`) is read; None where the stream itself is read. On the model's device.

        Found by calling it: no weight names, no "1 + w" special cases.
        """
        module = self._map.norms.get(self.site(site))
        if module is None:
            return None
        gain, bias, centres = gain_of(module, torch.zeros(self.d_model, dtype=self.dtype, device=self.device))
        return ReadNorm(stream=self._stream_before(site), gain=gain.float(), bias=bias.float(), centres=centres)

    def norm_module(self, site: Site) -> nn.Module | None:
        """The module of the norm that `site` (`attn_in`, `mlp_in`, `final_norm`) is read after, or of the post-norm that writes `attn_out`."""
        place = self.module(site)
        return place if site.kind == "attn_out" and is_norm(place) else self._map.norms.get(site)

    def vocabulary_mask(self) -> Bool[Tensor, "vocab"]:
        """True for ids that text can contain; False for control tokens, reserved places and rows beyond the tokenizer."""
        n_vocab = self.n_vocab
        mask = torch.zeros(n_vocab, dtype=torch.bool)
        mask[[token for token in self.tokenizer.text_ids if token < n_vocab]] = True
        return mask

    def _stream_before(self, site: Site) -> Site:
        """Where the residual stream is that the norm before `site` reads."""
        if site.kind == "final_norm":
            return Site("resid_post", self.n_layers - 1)
        return Site("resid_mid" if site.kind == "mlp_in" and not self.is_parallel else "resid_pre", site.layer)

    def _inputs(self, tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None) -> dict[str, Tensor]:
        self._check_tokens(tokens)
        ids = tokens.to(self.device).long()
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        if mask is None:
            return {"input_ids": ids, "position_ids": positions}
        real = mask.to(ids.device)
        if bool((real[:, :-1] >= real[:, 1:]).all()):  # padding on the right only: causality hides it, and no mask is the fast path
            return {"input_ids": ids, "position_ids": positions}
        return {"input_ids": ids, "position_ids": (real.long().cumsum(1) - 1).clamp_min(0), "attention_mask": real.long()}

    def _check_tokens(self, tokens: Int[Tensor, "batch pos"]) -> None:
        if tokens.numel() == 0:
            raise TokenOutOfRange("there are no tokens.", got=tuple(tokens.shape), wanted="at least one token", do="Give a text that is not empty.")
        if tokens.shape[1] > self.max_context:
            do = "Cut the text into shorter pieces."
            raise TokenOutOfRange("the text is longer than the model's context.", got=tokens.shape[1], wanted=f"at most {self.max_context}", do=do)
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.n_vocab:
            do = "Use ids made by this model's own tokenizer."
            raise TokenOutOfRange(
                f"a token id is outside of {self.ref}'s vocabulary.", got=low if low < 0 else high, wanted=f"0 to {self.n_vocab - 1}", do=do
            )


@torch.no_grad()
def gain_of(norm: nn.Module, like: Float[Tensor, "d_model"]) -> tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"], bool]:
    """The gain and the bias of a norm, and whether it centres, by calling it on rows of the width, type and device of `like`.

    A row of alternating ±1 has mean 0 and root mean square 1, so that the norm returns gain · ±1 + bias.
    """
    signs = torch.ones_like(like)
    signs[1::2] = -1
    bias = norm(torch.zeros_like(like)[None, None])[0, 0]
    gain = (norm(signs[None, None])[0, 0] - bias) * signs
    return gain, bias, torch.equal(norm(torch.ones_like(like)[None, None])[0, 0], bias)


def next_token_losses(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"], *, mask: Bool[Tensor, "batch pos"] | None
) -> Float[Tensor, "batch pos-1"]:
    """`Model.loss` of logits."""
    targets = tokens.to(logits.device)[:, 1:]
    rows = [nn.functional.cross_entropy(row[:-1].float(), target, reduction="none") for row, target in zip(logits, targets, strict=True)]
    losses = torch.stack(rows)
    if mask is not None:
        here = mask.to(logits.device)
        losses = losses.masked_fill(~(here[:, 1:] & here[:, :-1]), 0.0)
    return losses


def _plain(value: Any) -> Any:
    """Config values with everything that JSON does not know as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
