"""Forwards that begin in the middle: what comes before the first edit is run once, however many edits are compared."""

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, final

import torch
from torch import nn

from microtome.models.discover import hidden_of, leading_tensor
from microtome.models.model import Model, next_token_losses
from microtome.models.sites import Site
from microtome.models.tap import Edit
from microtome.shapes import Bool, Float, Int, Tensor

_PROBE = 8
"""Tokens on which replayed logits must be the model's own."""


class Call(NamedTuple):
    """What a block was called with, its hidden states left out."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def on(self, block: nn.Module, x: Tensor) -> Tensor:
        """Call the block with other hidden states."""
        args = tuple(x if item is _HIDDEN else item for item in self.args)
        found = leading_tensor(block(*args, **{name: x if item is _HIDDEN else item for name, item in self.kwargs.items()}))
        assert found is not None
        return found


_HIDDEN = object()


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One unedited forward."""

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"] | None
    losses: Float[Tensor, "batch next"]
    """As `Model.loss` gives them."""
    calls: tuple[Call, ...]
    """One a block."""
    inputs: Mapping[int, Float[Tensor, "batch pos d_model"]]
    """The hidden states that went into some of the blocks."""


@final
class Replay:
    """Records forwards of a model, and goes on from inside them under edits. Forwards are recorded inside its `with` block; any thread may.

    >>> with Replay(model) as replay:
    ...     recorded = replay.record(tokens, layers=[15])
    >>> replay.loss(recorded, edit={site: f})     # what model.loss(tokens, edit={site: f}) gives, from layer 15 on

    Blocks are called again with the arguments that the model gave them, then the final norm and the unembedding. Where these are not all that makes
    the logits (capped or scaled logits), which a probe finds out, `holds` is False and every forward is a whole one.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._blocks = [model.module(Site("resid_pre", layer)) for layer in range(model.n_layers)]
        self._norm = model.module(Site("final_norm"))
        self._head: nn.Module | None = model.hf.get_output_embeddings()
        self._open: ContextVar[list[tuple[Call, Tensor]] | None] = ContextVar("microtome_recording", default=None)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        with self:
            self.holds = self._probe()

    def __enter__(self) -> "Replay":
        self._hooks = [block.register_forward_pre_hook(self._note, with_kwargs=True) for block in self._blocks]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @torch.no_grad()
    def record(self, tokens: Int[Tensor, "batch pos"], *, layers: Collection[int], mask: Bool[Tensor, "batch pos"] | None = None) -> Recorded:
        """An unedited forward; forwards can go on from each of `layers`."""
        seen: list[tuple[Call, Tensor]] = []
        token = self._open.set(seen)
        try:
            losses = self.model.loss(tokens, mask=mask)
        finally:
            self._open.reset(token)
        inputs = {layer: x.clone() for layer, (_, x) in enumerate(seen) if layer in layers}
        return Recorded(tokens=tokens, mask=mask, losses=losses, calls=tuple(call for call, _ in seen), inputs=inputs)

    @torch.no_grad()
    def loss(self, recorded: Recorded, *, edit: Mapping[Site, Edit]) -> Float[Tensor, "batch next"]:
        """`model.loss` under an edit, from the last recorded layer at or before the first one that is edited."""
        start = self._start(recorded, edit)
        if start is None or not self.holds:
            return self.model.loss(recorded.tokens, mask=recorded.mask, edit=edit)
        return next_token_losses(self._logits(recorded, start, edit=edit), recorded.tokens, mask=recorded.mask)

    def _start(self, recorded: Recorded, edit: Mapping[Site, Edit]) -> int | None:
        layers = [-1 if site.layer is None else site.layer for site in edit]
        return max((layer for layer in recorded.inputs if layer <= min(layers, default=-1)), default=None)

    def _logits(self, recorded: Recorded, start: int, *, edit: Mapping[Site, Edit]) -> Float[Tensor, "batch pos vocab"]:
        x = recorded.inputs[start].clone()
        with self.model.tap(edit=edit):
            for block, call in zip(self._blocks[start:], recorded.calls[start:], strict=True):
                x = call.on(block, x)
            assert self._head is not None
            return self._head(self._norm(x))

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen = self._open.get()
        if seen is None:
            return
        x = hidden_of(args, kwargs)
        assert x is not None
        here = Call(tuple(_HIDDEN if item is x else item for item in args), {name: _HIDDEN if item is x else item for name, item in kwargs.items()})
        seen.append((here, x))

    @torch.no_grad()
    def _probe(self) -> bool:
        """Whether logits from the middle are those from the beginning."""
        if self._head is None:
            return False
        tokens = torch.arange(_PROBE)[None] % self.model.n_vocab
        middle = self.model.n_layers // 2
        recorded = self.record(tokens, layers=[middle])
        if len(recorded.calls) != len(self._blocks):
            return False
        whole = self.model.logits(tokens)
        return torch.allclose(self._logits(recorded, middle, edit={}), whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
