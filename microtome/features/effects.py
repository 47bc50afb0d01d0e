"""What a feature does to the output, measured: the model is run on the feature's own examples with its activations removed, and doubled.

For an example with its peak on token T of a context, a_t the feature's activations there, d_s what one unit of it writes at site s, and a factor c:

    x_s(t) <- x_s(t) + (c - 1) a_t d_s    for t <= T        kl = KL(p_c(· | x_<=T) ‖ p(· | x_<=T))

Nothing is decoded, so the dictionary's error stays in the stream. The control writes the direction of another feature in place of d_s, made as long,
with the same signs and amounts: what any push of that size would do. Stored in the catalogue feature by feature, so that a long job resumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from microtome.config import canonical_json, from_dict
from microtome.errors import ConfigError, QueryInvalid
from microtome.features.arrays import Array
from microtome.features.effect_records import Change, Effects, TokenShift
from microtome.features.store import Store
from microtome.features.wiring import Writes
from microtome.models import Model
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Tensor
from microtome.stats import bootstrap_ratio

KIND = "effects"
FACTORS = (0.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class EffectsConfig:
    """How effects are measured; another setting is another record."""

    examples: int = 10
    """Most examples, the strongest first, one a document."""
    tokens: int = 12
    """Vocabulary entries listed at either end."""
    seed: int = 0
    """Of the control's features and of the intervals."""

    def __post_init__(self) -> None:
        if min(self.examples, self.tokens) < 1:
            got = f"examples {self.examples}, tokens {self.tokens}"
            raise ConfigError("EffectsConfig asks for nothing.", got=got, wanted="at least 1 of each", do="Correct it.")


class Measured(NamedTuple):
    """One example: log-probabilities of the next token, a row a variant (unedited, then for each factor the feature and its control)."""

    logs: Float[Tensor, "variants vocab"]
    following: int | None


def measured(store: Store, *, config: EffectsConfig) -> frozenset[int]:
    """The features of which something is stored."""
    return store.catalogue.recorded(store.id, kind=KIND, config=canonical_json(config))


def stored(store: Store, feature: int, *, config: EffectsConfig) -> Effects | None:
    """What was measured before with this setting."""
    found = store.catalogue.record(store.id, feature, kind=KIND, config=canonical_json(config))
    return None if found is None else from_dict(Effects, found)


def measure(store: Store, model: Model, features: Sequence[int], *, config: EffectsConfig, progress: Progress | None) -> int:
    """Measure those features that have no record yet, and store each as it is done; how many were new. Raises `ModelTapped`."""
    _check(store, model)
    model.check_untapped("measuring effects")
    tell = Throttled(progress)
    done = measured(store, config=config)
    new = 0
    for number, feature in enumerate(features):
        if feature not in done:
            found = effects(store, model, feature, config=config)
            store.catalogue.add_record(store.id, feature, kind=KIND, config=canonical_json(config), content=found)
            new += 1
        tell("measure effects", number + 1, len(features), unit="features")
    return new


def sample(store: Store, *, n: int, seed: int) -> list[int]:
    """`n` of the features that fire, drawn at random; a larger n draws the same ones first."""
    alive = np.flatnonzero(store.rows.numbers["count"] > 0)
    return np.random.default_rng(seed).permutation(alive)[: max(0, n)].tolist()


def effects(store: Store, model: Model, feature: int, *, config: EffectsConfig) -> Effects:
    """Run the feature's strongest examples under the edits."""
    _check(store, model)
    row = store.rows.row(feature)
    peaks: list[int] = row["top_positions"][: config.examples]
    writes = store.wiring.writes(feature)
    controls = _controls(store, feature, writes, n=len(peaks), seed=config.seed)
    found = [_run(store, model, feature, peak=peak, writes=writes, control=control) for peak, control in zip(peaks, controls, strict=True)]
    amounts = [_amounts(store, feature, start=peak, end=peak + 1)[0] for peak in peaks]
    norm = float(torch.cat([vector for _, vector in sorted(writes.items())]).norm())
    mean = float(np.mean(amounts)) if amounts else 0.0
    return Effects(
        index=store.name,
        feature=feature,
        label=store.labels()[feature],
        model=model.ref + (f" ({model.quantised})" if model.quantised else ""),
        n=len(peaks),
        activation=mean,
        size=mean * norm,
        changes=tuple(_change(store, found, factor=factor, row=1 + 2 * i, config=config) for i, factor in enumerate(FACTORS)) if found else (),
    )


def _check(store: Store, model: Model) -> None:
    store.check_model(model)
    for dictionary in store.members.dictionaries:
        if len(dictionary.inputs) > 1:
            got, do = f"a crosscoder of {len(dictionary.inputs)} sites", "Use an SAE, a transcoder, or a set of them."
            what = "the effect of a feature that is read where it was written before cannot be told from its later parts."
            raise QueryInvalid(what, got=got, wanted="a dictionary that reads one site", do=do)


def _run(store: Store, model: Model, feature: int, *, peak: int, writes: Writes, control: Writes) -> Measured:
    """All variants of one example as the rows of one batch."""
    corpus = store.corpus
    start = int(corpus.context_start[int(corpus.context_of([peak])[0])])
    tokens = torch.from_numpy(np.asarray(corpus.tokens[start : peak + 1]).astype(np.int64))
    amounts = torch.from_numpy(_amounts(store, feature, start=start, end=peak + 1))
    pushes = torch.tensor([0.0, *(factor - 1 for factor in FACTORS for _ in range(2))])
    edits = {site: _adder(pushes, amounts, torch.stack([writes[site], control[site]])) for site in writes}
    logits = model.logits(tokens.expand(len(pushes), -1), edit=edits, last=1)[:, -1, : len(model.tokenizer)]
    end = int(corpus.context_start[int(corpus.context_of([peak])[0]) + 1])
    following = int(corpus.tokens[peak + 1]) if peak + 1 < end else None
    return Measured(logits.double().cpu().log_softmax(-1), following)


def _adder(pushes: Tensor, amounts: Tensor, vectors: Tensor) -> "_Adder":
    """Row r of the batch gets pushes[r] · amounts[t] · one of the two vectors (the feature's in odd rows, the control's in even ones)."""
    which = vectors[(torch.arange(len(pushes)) + 1) % 2]
    return _Adder(pushes[:, None, None] * amounts[None, :, None] * which[:, None, :])


class _Adder:
    """An edit that adds what was prepared."""

    def __init__(self, added: Tensor) -> None:
        self._added = added

    def __call__(self, x: Tensor) -> Tensor:
        return x + self._added.to(x)


def _amounts(store: Store, feature: int, *, start: int, end: int) -> Array:
    """The feature's activations on consecutive tokens, as they are stored."""
    found = np.zeros(end - start, np.float32)
    firings = store.postings.within(feature, start=start, end=end)
    found[firings.positions - start] = firings.values
    return found


def _controls(store: Store, feature: int, writes: Writes, *, n: int, seed: int) -> list[Writes]:
    """For each example the directions of another feature of the same dictionary, at each site as long as the feature's own."""
    span = store.numbering.span(store.numbering.place(feature).member)
    others = np.arange(span.start, span.stop)[store.rows.numbers["decoder_norm"][span] > 0]
    others = others[others != feature]
    if not len(others):
        return [{site: torch.zeros_like(vector) for site, vector in writes.items()} for _ in range(n)]
    drawn = np.random.default_rng([seed, feature]).choice(others, n, replace=n > len(others)).tolist()
    found: list[Writes] = []
    for other in drawn:
        theirs = store.wiring.writes(other)
        found.append({site: _as_long(theirs[site], as_=vector) for site, vector in writes.items()})
    return found


def _as_long(vector: Tensor, *, as_: Tensor) -> Tensor:
    length = float(vector.norm())
    return vector * (float(as_.norm()) / length) if length else torch.zeros_like(vector)


def _change(store: Store, found: Sequence[Measured], *, factor: float, row: int, config: EffectsConfig) -> Change:
    """Over all examples, the variant in `row` and its control in the row behind it, against the unedited one in row 0."""
    own, control = ([_kl(each.logs[at], each.logs[0]) for each in found] for at in (row, row + 1))
    before = torch.stack([each.logs[0].exp() for each in found]).mean(0)
    shift = torch.stack([each.logs[row].exp() for each in found]).mean(0) - before
    losses = [float(each.logs[0, each.following] - each.logs[row, each.following]) for each in found if each.following is not None]
    ones = np.ones(len(found))
    interval, around = bootstrap_ratio(own, ones, seed=config.seed), bootstrap_ratio(control, ones, seed=config.seed)
    return Change(
        factor=factor,
        kl=float(np.mean(own)),
        kl_low=interval.low,
        kl_high=interval.high,
        control=float(np.mean(control)),
        control_low=around.low,
        control_high=around.high,
        larger=sum(mine > theirs for mine, theirs in zip(own, control, strict=True)),
        loss=float(np.mean(losses)) if losses else None,
        promoted=_shifts(store, before, shift, limit=config.tokens),
        suppressed=_shifts(store, before, -shift, limit=config.tokens, sign=-1.0),
    )


def _kl(changed: Tensor, plain: Tensor) -> float:
    """KL(changed ‖ plain) in nats of two rows of log-probabilities."""
    return max(0.0, float((changed.exp() * (changed - plain)).sum()))


def _shifts(store: Store, before: Tensor, shift: Tensor, *, limit: int, sign: float = 1.0) -> tuple[TokenShift, ...]:
    """The entries that rise most in `shift`; `sign` turns the figure back."""
    values, tokens = shift.topk(min(limit, len(shift)))
    pairs = [(value, token) for value, token in zip(values.tolist(), tokens.tolist(), strict=True) if value > 0]
    return tuple(
        TokenShift(token=token, piece=store.vocabulary.piece(token), before=float(before[token]), change=sign * value) for value, token in pairs
    )
