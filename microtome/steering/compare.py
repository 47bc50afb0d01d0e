"""The same prompt unedited and edited, with the same random numbers, and how far apart the two models are on the edited text."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from microtome.dictionaries import Dictionary
from microtome.models import Model
from microtome.steering.apply import applied
from microtome.steering.cache_edit import KVEdit
from microtome.steering.compose import Edits, EditSet, sets_for
from microtome.steering.generate import Generation, generate
from microtome.steering.layout import Batch, Prompt
from microtome.steering.sampling import Sampling


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Two continuations of one prompt."""

    unedited: Generation
    edited: Generation
    kl: tuple[float, ...] | None
    """For each token of the edited continuation KL(edited ‖ unedited) of the distributions it was chosen from, in nats; None under KV edits."""
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
    row = edited.row
    batch, n_prompt = Batch.of(model, [row]), len(edited.prompt.tokens)
    plain = model.logits(batch.tokens, mask=batch.mask)[0, n_prompt - 1 : -1].double().log_softmax(-1)
    targets = torch.tensor(edited.tokens, device=plain.device)
    surprise = -plain.gather(1, targets[:, None])[:, 0]
    kl: tuple[float, ...] | None = None
    if not any(isinstance(edit, KVEdit) for edit in chosen.edits):
        with applied(model, replace(chosen, on_unmatched="allow"), batch=batch, dictionaries=dictionaries):
            changed = model.logits(batch.tokens, mask=batch.mask)[0, n_prompt - 1 : -1].double().log_softmax(-1)
        kl = tuple((changed.exp() * (changed - plain)).sum(-1).clamp_min(0).tolist())
    return Comparison(unedited=unedited, edited=edited, kl=kl, surprise=tuple(surprise.tolist()))
