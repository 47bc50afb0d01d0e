"""Multi-slot probes: several read-outs with one shared vocabulary, of which nobody says which one reads the current entity and which the prior one.

After "Slot Machines" (2604.21139), whose loss is not public. Here: K maps W_k (rank r) into one space and a classifier C shared by all, so that
slot k says entity e with log odds (C W_k x + b)_e; trained with the cross-entropy of the entities seen last, each slot free to take any of them.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from microtome.directions.direction import Direction
from microtome.directions.reading import Reader
from microtome.directions.recipes.recipe import Made, made_by, need, recipe, shuffled
from microtome.errors import ConfigError
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Int, Tensor
from microtome.stats import Result, wilson

SLOT_NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry")
_SAYS = (
    "{} lives in a small house by the road.",
    "{} keeps two old bicycles in the yard.",
    "{} likes to read in the evening.",
    "{} works at the post office.",
    "{} has a garden full of beans.",
    "{} plays the drums on Sundays.",
    "{} walks to town every morning.",
    "{} paints the fence each spring.",
)
_RATE, _DECAY = 0.05, 0.2
"""Of AdamW. Without decay a slot can learn any half of each set by heart: each row fits, and no lag is read."""
_TRAINED = 0.75
"""Share of the stories trained on."""
_RESTARTS = 6
_WARM, _COLD, _COOLED = 3.0, 0.05, 0.7
"""Heat of the first steps and of the last warm ones, in nats; share of the steps that are warm."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """Sentences, each about one entity."""

    sentences: tuple[str, ...]
    entities: tuple[str, ...]
    """Of each sentence, the name of whom it is about."""

    def __post_init__(self) -> None:
        if len(self.sentences) != len(self.entities) or len(self.sentences) < 2:
            got = f"{len(self.sentences)} sentences, {len(self.entities)} entities"
            raise ConfigError("a story cannot be read.", got=got, wanted="an entity for each of two sentences or more", do="Correct it.")


@dataclass(frozen=True, kw_only=True)
class SlotsFitted:
    """The probe. Slot k's log odds of the entities are classifier · maps[k] · (x − mean) / scale + bias."""

    maps: Float[Tensor, "slots rank width"]
    classifier: Float[Tensor, "entities rank"]
    bias: Float[Tensor, "entities"]
    mean: Float[Tensor, "width"]
    scale: Float[Tensor, "width"]
    loss: float
    """Of the training rows, nats a slot."""

    def log_odds(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n slots entities"]:
        """Of each slot, up to a constant."""
        inner = torch.einsum("nd,krd->nkr", (rows.double() - self.mean) / self.scale, self.maps)
        return inner @ self.classifier.T + self.bias

    def directions(self, slot: int) -> Float[Tensor, "entities width"]:
        """What raises each entity's log odds in a slot, against the mean of the entities, in the rows' own units."""
        weights = self.classifier @ self.maps[slot] / self.scale
        return (weights - weights.mean(0)).float()

    def angles(self, one: int, other: int) -> tuple[float, ...]:
        """Principal angles between what two slots read, in degrees, the smallest first: 90 for orthogonal ones."""
        bases = [_span(self.classifier @ self.maps[slot] - (self.classifier @ self.maps[slot]).mean(0)) for slot in (one, other)]
        cosines = torch.linalg.svdvals(bases[0] @ bases[1].T).clamp(-1, 1)
        return tuple(cosines.acos().rad2deg().tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotsMade:
    """A direction for each slot and entity, named by the lag that the slot settled on."""

    made: Mapping[str, Made]
    """By `slot-entity`: `current-Anna`, `prior-Ben`."""
    right: tuple[Mapping[str, float], ...]
    """For each slot, the share of held-out rows where it says the entity of each lag; `next` is the sentence not read yet."""
    names: tuple[str, ...]
    """Of each slot: `current`, `prior`, `lag2` …, by the lag it is right about most often."""
    results: tuple[Result, ...]
    notes: tuple[str, ...]


@recipe("slots")
def slots(reader: Reader, *, told: Sequence[Story] | None = None, n_slots: int = 2, rank: int = 8, steps: int = 200, seed: int = 0) -> SlotsMade:
    """Probe whom the sentences are about, now and before, at the last token of each sentence (the reader's span is not used).

    Every sentence from the `n_slots`-th on is a row, whose entities are those of this sentence and the `n_slots` − 1 before it. Training sees them
    as a set. Which lag a slot reads is looked up afterwards on held-out stories (a quarter; no story is in both): `right` has its accuracy for
    the current entity, the prior ones, one lag more than was trained, and the next one, which nothing can know. `shuffled` is the same probe
    trained with the entities of other rows; `chance` the commonest entity; the other slot's read-out on the same labels is the transfer.
    """
    told = stories(seed=seed) if told is None else told
    need(told, at_least=8, what="stories")
    if not 2 <= n_slots <= 4 or rank < 1 or steps < 1:
        raise ConfigError(
            "such slots cannot be trained.", got=f"{n_slots} slots, rank {rank}", wanted="2 to 4 slots, rank 1 or more", do="Correct it."
        )
    known = sorted({name for story in told for name in story.entities})
    need(known, at_least=3, what="entities")
    table = _read(reader, told, known=known, n_slots=n_slots)
    held = torch.tensor([story in set(shuffled(len(told), seed=seed)[int(_TRAINED * len(told)) :]) for story in table.story.tolist()])
    fitted = fit_slots(table.rows[~held], table.sets[~held], rank=rank, n_entities=len(known), steps=steps, seed=seed, progress=reader.progress)
    mixed_sets = table.sets[~held][shuffled(int((~held).sum()), seed=seed + 1)]
    mixed = fit_slots(table.rows[~held], mixed_sets, rank=rank, n_entities=len(known), steps=steps, seed=seed)
    lags = {lag: table.lags[lag][held] for lag in table.lags}
    right, null = slots_right(fitted, table.rows[held], lags=lags), slots_right(mixed, table.rows[held], lags=lags)
    names = _named(right, n_slots)
    provenance = made_by(reader, "slots", stories=len(told), n_slots=n_slots, rank=rank, steps=steps, seed=seed, entities=known)
    made: dict[str, Made] = {}
    for slot, name in enumerate(names):
        for entity, vector in zip(known, fitted.directions(slot), strict=True):
            sign = f"the {name} entity is {entity}"
            direction = Direction(
                name=f"{name} {entity}",
                site=reader.site,
                vector=vector,
                unit="log odds per unit of activation",
                sign=sign,
                reference="the mean of the entities",
                model=reader.model.fingerprint,
                provenance={**provenance, "slot": slot, "right": dict(right[slot])},
            )
            made[f"{name}-{entity}"] = Made(direction=direction)
    return SlotsMade(
        made=made,
        right=tuple(right),
        names=names,
        results=_results(fitted, right, null=null, names=names, lags=lags),
        notes=_notes(right, names=names, lags=lags),
    )


def stories(*, n: int = 120, length: int = 4, names: Sequence[str] = SLOT_NAMES, seed: int = 0) -> tuple[Story, ...]:
    """Our own little stories: each sentence about another of `names` than those before it, in a random order, saying a random thing."""
    told: list[Story] = []
    for i in range(n):
        who = [names[at] for at in shuffled(len(names), seed=1000 * seed + 2 * i)[:length]]
        what = [_SAYS[at] for at in shuffled(len(_SAYS), seed=1000 * seed + 2 * i + 1)[:length]]
        told.append(Story(sentences=tuple(say.format(name) for say, name in zip(what, who, strict=True)), entities=tuple(who)))
    return tuple(told)


def fit_slots(
    rows: Float[Tensor, "n width"],
    sets: Int[Tensor, "n slots"],
    *,
    n_entities: int,
    rank: int = 8,
    steps: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> SlotsFitted:
    """Train the probe on rows and the unordered entities of each; of six random beginnings the one with the lowest loss.

    The loss of a row is the least, over the ways to give its entities to the slots, of the mean cross-entropy: exchanging the entities of
    a row, or the slots, changes nothing. AdamW in fp64 on standardised columns.
    """
    x = rows.double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 1e-9 * scale.max().clamp_min(1e-300), scale, torch.inf)
    standard, report = (x - mean) / scale, Throttled(progress)
    ways = torch.tensor(list(itertools.permutations(range(sets.shape[1]))))
    best: SlotsFitted | None = None
    for restart in range(_RESTARTS):
        generator = torch.Generator().manual_seed(seed + 100 * restart)
        maps = torch.randn(sets.shape[1], rank, x.shape[1], generator=generator, dtype=torch.float64) / x.shape[1] ** 0.5
        classifier = torch.randn(n_entities, rank, generator=generator, dtype=torch.float64) / rank**0.5
        bias = torch.zeros(n_entities, dtype=torch.float64)
        parts = [maps.requires_grad_(), classifier.requires_grad_(), bias.requires_grad_()]
        optimiser, loss = torch.optim.AdamW(parts, lr=_RATE, weight_decay=_DECAY), torch.zeros(())
        for step in range(steps):
            log_odds = torch.einsum("nd,krd->nkr", standard, maps) @ classifier.T + bias
            loss = _least(log_odds, sets, ways, heat=_heat(step, steps))
            optimiser.zero_grad()
            loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped
            optimiser.step()
            report("train slots", restart * steps + step + 1, _RESTARTS * steps, unit="steps")
        if best is None or float(loss.detach()) < best.loss:
            maps, classifier, bias = (part.detach() for part in parts)
            best = SlotsFitted(maps=maps, classifier=classifier, bias=bias, mean=mean, scale=scale, loss=float(loss.detach()))
    assert best is not None
    return best


def slots_right(fitted: SlotsFitted, rows: Float[Tensor, "n width"], *, lags: Mapping[str, Int[Tensor, "n"]]) -> list[Mapping[str, float]]:
    """For each slot and lag, the share of rows whose entity of that lag the slot finds likeliest; rows without one (−1) are left out."""
    said = fitted.log_odds(rows).argmax(-1)
    return [
        {lag: float((said[:, slot] == truth)[truth >= 0].double().mean()) for lag, truth in lags.items() if bool((truth >= 0).any())}
        for slot in range(said.shape[1])
    ]


def _heat(step: int, steps: int) -> float:
    """From warm to cold over the first two thirds of the steps, then 0."""
    share = step / (_COOLED * steps)
    return _WARM * (_COLD / _WARM) ** share if share < 1 else 0.0


def _least(log_odds: Tensor, sets: Tensor, ways: Tensor, *, heat: float) -> Tensor:
    """Mean over rows of the least mean cross-entropy L over the ways to give the entities to the slots; with heat τ, of −τ ln mean e^(−L/τ).

    Without heat each row clings to the way that a random beginning favours; warm, both slots first learn the set, and part where that gains most.
    """
    losses = -log_odds.log_softmax(-1)
    each = losses.gather(2, sets[:, None, :].expand(-1, log_odds.shape[1], -1))  # row, slot, entity of the set
    slot = torch.arange(ways.shape[1])
    by_way = torch.stack([each[:, slot, way].mean(1) for way in ways])
    if heat == 0:
        return by_way.min(0).values.mean()
    return -heat * ((-by_way / heat).logsumexp(0) - math.log(len(ways))).mean()


class _Table(NamedTuple):
    rows: Float[Tensor, "n width"]
    sets: Int[Tensor, "n slots"]
    lags: Mapping[str, Int[Tensor, "n"]]
    """Of each row, the number of the entity at a lag; −1 where the story has none."""
    story: Int[Tensor, "n"]


def _read(reader: Reader, told: Sequence[Story], *, known: Sequence[str], n_slots: int) -> _Table:
    """A row for every sentence that has enough before it; a story read up to there, so that the last token is the sentence's."""
    number = {name: i for i, name in enumerate(known)}
    at = [(i, j) for i, story in enumerate(told) for j in range(n_slots - 1, len(story.sentences))]
    need(at, at_least=8, what="sentences with enough before them")
    rows = reader.over("last").rows([" ".join(told[i].sentences[: j + 1]) for i, j in at])

    def entity(i: int, j: int) -> int:
        return number[told[i].entities[j]] if 0 <= j < len(told[i].entities) else -1

    back = {"current": 0, "prior": 1, **{f"lag{lag}": lag for lag in range(2, n_slots + 1)}, "next": -1}
    lags = {name: torch.tensor([entity(i, j - lag) for i, j in at]) for name, lag in back.items()}
    sets = torch.tensor([[entity(i, j - lag) for lag in range(n_slots)] for i, j in at])
    return _Table(rows, sets, lags, torch.tensor([i for i, _ in at]))


def _named(right: Sequence[Mapping[str, float]], n_slots: int) -> tuple[str, ...]:
    """The lag of each slot, one each: the way of giving them out that is right most often."""
    lags = [lag for lag in ("current", "prior", "lag2", "lag3") if lag in right[0]][:n_slots]
    return max(itertools.permutations(lags), key=lambda way: sum(right[slot][lag] for slot, lag in enumerate(way)))


def _span(rows: Float[Tensor, "n width"]) -> Float[Tensor, "rank width"]:
    _, singular, vectors = torch.linalg.svd(rows, full_matrices=False)
    return vectors[singular > 1e-6 * singular[0]]


def _commonest(truth: Int[Tensor, "n"]) -> float:
    there = truth[truth >= 0]
    return float(there.bincount().max()) / len(there)


def _results(
    fitted: SlotsFitted,
    right: Sequence[Mapping[str, float]],
    *,
    null: Sequence[Mapping[str, float]],
    names: tuple[str, ...],
    lags: Mapping[str, Int[Tensor, "n"]],
) -> tuple[Result, ...]:
    found: list[Result] = []
    for slot, name in enumerate(names):
        truth = lags[name]
        n = int((truth >= 0).sum())
        interval = wilson(round(right[slot][name] * n), n)
        others = {f"slot {other}": right[names.index(other)][name] for other in names if other != name}
        baselines = {"chance": _commonest(truth), "shuffled": max(each[name] for each in null), **others}
        definition = f"share of held-out sentences where this slot says the {name} entity; beside it the other slot on the same labels"
        found.append(
            Result(
                name=f"{name}_right", value=right[slot][name], low=interval.low, high=interval.high, n=n, definition=definition, baselines=baselines
            )
        )
    for lag, truth in lags.items():
        if lag not in names and lag in right[0]:
            best = max(each[lag] for each in right)
            definition = f"the best slot on the {lag} entity, which none was trained for: what is above chance is told by the other sentences"
            found.append(
                Result(name=f"{lag}_right", value=best, n=int((truth >= 0).sum()), definition=definition, baselines={"chance": _commonest(truth)})
            )
    angles = fitted.angles(0, 1)
    definition = "mean principal angle between what the first two slots read; the smallest is beside it"
    found.append(
        Result(name="angle", value=sum(angles) / len(angles), n=len(angles), unit="degrees", definition=definition, baselines={"smallest": angles[0]})
    )
    return tuple(found)


def _notes(right: Sequence[Mapping[str, float]], *, names: tuple[str, ...], lags: Mapping[str, Int[Tensor, "n"]]) -> tuple[str, ...]:
    notes = [
        "That a slot can be read does not show that the model uses it: nothing was swapped.",
        "The entity is its name, which stands in the sentence: a slot may read the name and not whom it means.",
    ]
    for slot, name in enumerate(names):
        if right[slot][name] < 2 * _commonest(lags[name]):
            notes.append(f"The slot {name} is right less than twice as often as chance: there is hardly such a slot here.")
    return tuple(notes)
