"""The same prompt unedited and edited, with the same random numbers, and how far apart the two models are on the edited text."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from microtome.dictionaries import Dictionary
from microtome.models import Model
from microtome.shapes import Float, Tensor
from microtome.steering.apply import applied
from microtome.steering.cache_edit import KVEdit
from microtome.steering.compose import Edits, EditSet, sets_for
from microtome.steering.generate import Generation, generate
from microtome.steering.layout import Batch, Prompt
from microtome.steering.repetition import repeats
from microtome.steering.report import EditCount
from microtome.steering.sampling import Sampling


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Two continuations of one prompt."""

    unedited: Generation
    edited: Generation
    kl: tuple[float, ...] | None
    """For each token of the edited continuation KL(edited ‖ unedited) of the distributions it was chosen from, in nats; None under KV edits."""
    kl_unedited: tuple[float, ...] | None
    """The same along the unedited continuation: where the edits would have turned it."""
    surprise: tuple[float, ...]
    """For each token of the edited continuation its cross-entropy under the unedited model, in nats: how coherent that model finds it."""


@torch.no_grad()
def compare(
    model: Model,
    prompt: Prompt,
    *,
    edits: Edits,
    sampling: Sampling = Sampling(),  # noqa: B008  # frozen
    dictionaries: Mapping[str, Dictionary] | None = None,
) -> Comparison:
    """Generate without and with edits by the same settings and seed, and measure the edited text. Raises what `generate` raises."""
    chosen = sets_for(edits, 1)[0]
    unedited, edited = generate(model, [prompt, prompt], edits=[EditSet(), chosen], sampling=sampling, dictionaries=dictionaries)
    plain = _next_tokens(model, edited)
    targets = torch.tensor(edited.tokens, device=plain.device)
    surprise = -plain.gather(1, targets[:, None])[:, 0]
    kls: list[tuple[float, ...] | None] = [None, None]
    if not any(isinstance(edit, KVEdit) for edit in chosen.edits):
        lenient = replace(chosen, on_unmatched="allow")
        for i, made in enumerate((edited, unedited)):
            before = plain if made is edited else _next_tokens(model, made)
            after = _next_tokens(model, made, edits=lenient, dictionaries=dictionaries)
            kls[i] = tuple((after.exp() * (after - before)).sum(-1).clamp_min(0).tolist())
    return Comparison(unedited=unedited, edited=edited, kl=kls[0], kl_unedited=kls[1], surprise=tuple(surprise.tolist()))


def _next_tokens(
    model: Model, made: Generation, *, edits: EditSet | None = None, dictionaries: Mapping[str, Dictionary] | None = None
) -> Float[Tensor, "n vocab"]:
    """The log-probabilities from which each generated token could be chosen, in fp64."""
    batch, n_prompt = Batch.of(model, [made.row]), len(made.prompt.tokens)
    with nullcontext() if edits is None else applied(model, edits, batch=batch, dictionaries=dictionaries):
        return model.logits(batch.tokens, mask=batch.mask)[0, n_prompt - 1 : -1].double().log_softmax(-1)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One continuation as pages and command lines show it."""

    text: str
    ending: str
    tokens: tuple[str, ...]
    """What each generated token adds to the text."""
    kl: tuple[float, ...] | None
    """Of each, KL(edited ‖ unedited) in nats; none under KV edits."""
    logprobs: tuple[float, ...]
    """Of each, under the model that chose it."""


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Two continuations, and what the edits did."""

    unedited: Side
    edited: Side
    cross_entropy: tuple[float, ...]
    """Of each token of the edited text under the unedited model, in nats."""
    kl_mean: float | None
    """Over the edited continuation, nats a token."""
    coherence: float
    """Mean of `cross_entropy`; of the unedited text under the same model it is `coherence_unedited`."""
    coherence_unedited: float
    repetition: float | None
    """Share of the edited text's groups of four tokens that stood in it before; none where it is shorter. Repetition costs no coherence."""
    repetition_unedited: float | None
    tokens_edited: int
    """Tokens that at least one edit changed, prompt and generated."""
    counts: tuple[EditCount, ...]


def side_by_side(both: Comparison) -> SideBySide:
    """A comparison as plain values."""
    sides = [
        Side(
            text=made.text,
            ending=made.ending,
            tokens=tuple(choice.text for choice in made.choices),
            kl=kl,
            logprobs=tuple(choice.logprob for choice in made.choices),
        )
        for made, kl in ((both.unedited, both.kl_unedited), (both.edited, both.kl))
    ]
    return SideBySide(
        unedited=sides[0],
        edited=sides[1],
        cross_entropy=both.surprise,
        kl_mean=None if both.kl is None else fmean(both.kl),
        coherence=fmean(both.surprise),
        coherence_unedited=-fmean(sides[0].logprobs),
        repetition=repeats(both.edited.tokens).share,
        repetition_unedited=repeats(both.unedited.tokens).share,
        tokens_edited=both.edited.n_edited,
        counts=both.edited.counts,
    )
