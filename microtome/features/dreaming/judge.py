"""Running prompts: how hard each drives the target and how fluent it is, and which change of a token would help most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from microtome.features.arrays import Array
from microtome.features.dreaming.targets import Target
from microtome.models import Model, Site
from microtome.shapes import Float, Int, Tensor

Prompt = tuple[int, ...]
_ROWS = 32
"""Prompts in one forward."""
_EMBED = Site("embed", None)


class Judged(NamedTuple):
    """What a prompt came to."""

    share: float
    """Activation over the largest in the store."""
    climb: float
    """What is maximised, in the same unit, up to a constant."""
    cross_entropy: float
    """Mean over its tokens, in nats."""


@dataclass(kw_only=True)
class Judge:
    """A model and a target; counts the tokens that it runs."""

    model: Model
    target: Target
    lead: list[int]
    """What stands before every prompt, as it begins a context of the corpus."""
    usable: Int[Tensor, "usable"]
    """Token ids that a prompt may hold."""
    at_last: bool
    tokens_run: int = 0
    prompts: int = 0

    def __post_init__(self) -> None:
        self.scale = float(self.target.firings.values.max())
        rows = [self.model.capture(ids[:, None], [_EMBED])[_EMBED][:, 0].float() for ids in self.usable.split(8192)]
        self._embedding = torch.cat(rows)

    def judge(self, prompts: Sequence[Prompt]) -> list[Judged]:
        """Each prompt alone, after `lead`."""
        found: list[Judged] = []
        for start in range(0, len(prompts), _ROWS):
            tokens = self._tokens(prompts[start : start + _ROWS])
            with torch.no_grad(), self.model.tap(read=self.target.sites) as seen:
                logits = self.model.logits(tokens)
            shape, rows = self._rows(seen)
            measured = self.target.measure(rows).float().cpu().reshape(shape).amax(1) / self.scale
            climbed = self.target.climb(rows).float().cpu().reshape(shape).amax(1) / self.scale
            losses = self._cross_entropy(logits, tokens).mean(1).cpu()
            found += [Judged(*map(float, each)) for each in zip(measured, climbed, losses, strict=True)]
            self.tokens_run += tokens.numel()
        self.prompts += len(prompts)
        return found

    def slopes(self, prompts: Sequence[Prompt], penalties: Array) -> Float[Tensor, "prompts pos usable"]:
        """First-order change of penalty · cross-entropy − activation / scale when a token is put at a place, up to a constant for the place.

        A token acts through what the model reads (the gradient at the embedding times its row there) and as what was to be predicted (its own
        negative log-probability); both are in it.
        """
        tokens = self._tokens(prompts)
        weights = torch.from_numpy(penalties).float().to(self.model.device)
        nudge = torch.zeros(len(prompts), tokens.shape[1], self._embedding.shape[1], device=self.model.device, requires_grad=True)
        with self.model.tap(read=self.target.sites, edit={_EMBED: lambda x: x + nudge.to(x)}) as seen:
            logits = self.model.logits(tokens, gradients=True)
        with torch.enable_grad():
            shape, rows = self._rows(seen)
            climbed = self.target.climb(rows).float().reshape(shape).amax(1) / self.scale
            fluency = self._cross_entropy(logits, tokens).mean(1)
            loss = (weights * fluency - climbed.to(weights)).sum()
        (gradient,) = torch.autograd.grad(loss, nudge)
        self.tokens_run += 2 * tokens.numel()
        skip = len(self.lead)
        found = gradient[:, skip:] @ self._embedding.T
        first = max(1, skip)
        surprise = -logits.detach()[:, first - 1 : -1].float().log_softmax(-1)[..., self.usable.to(logits.device)]
        found[:, first - skip :] += weights[:, None, None] * surprise / surprise.shape[1]
        return found.cpu()

    def is_text(self, prompt: Prompt) -> bool:
        """Whether a person could type it: its text has exactly these tokens."""
        text = self.model.tokenizer.text(prompt)
        return "\ufffd" not in text and tuple(self.model.tokenizer.encode(text)) == prompt

    def _tokens(self, prompts: Sequence[Prompt]) -> Int[Tensor, "prompts pos"]:
        return torch.tensor([[*self.lead, *prompt] for prompt in prompts]).to(self.model.device)

    def _rows(self, seen: Mapping[Site, Tensor]) -> tuple[tuple[int, int], dict[Site, Tensor]]:
        """What the target reads, a row a token that counts, and the shape that these rows have."""
        cut = {site: (x[:, -1:] if self.at_last else x[:, len(self.lead) :]) for site, x in seen.items()}
        shape = next(iter(cut.values())).shape
        return (shape[0], shape[1]), {site: x.reshape(-1, x.shape[-1]) for site, x in cut.items()}

    def _cross_entropy(self, logits: Float[Tensor, "prompts pos vocab"], tokens: Int[Tensor, "prompts pos"]) -> Float[Tensor, "prompts predicted"]:
        """Of each of the prompt's tokens; without a lead the first is not predicted. A prompt of one token alone has none."""
        first = max(1, len(self.lead))
        if tokens.shape[1] <= first:
            return logits.new_zeros(len(tokens), 1)
        predicted = logits[:, first - 1 : -1].float().log_softmax(-1)
        return -predicted.gather(2, tokens[:, first:, None]).squeeze(2)


def random_prompt(judge: Judge, draw: np.random.Generator, *, length: int) -> Prompt:
    """Tokens drawn one after the other such that what stands is always text."""
    found: Prompt = ()
    while len(found) < length:
        longer = (*found, int(judge.usable[int(draw.integers(len(judge.usable)))]))
        for _ in range(64):
            if judge.is_text(longer):
                break
            longer = (*found, int(judge.usable[int(draw.integers(len(judge.usable)))]))
        found = longer
    return found
