"""Interventions on the nodes of a graph, in the real model: what happens when features are set, multiplied or added to.

A change of a feature is written as `steering` writes it: (new − old) · decoder row is added to what is there, so errors and everything else stay.
What follows is computed in one of two ways (Ameisen et al. 2025, "Circuit tracing"; circuit-tracer's `feature_intervention` has the same two):

- iterative (`end_layer=None`): old activations are read where the edit finds them, and all MLPs respond; by choice the attention patterns are held.
- constrained (`end_layer=e`): the MLPs of layers 0 to e do not respond. They write their clean values plus the changes, which are computed from clean
  activations and not written beyond e, plus skip(x) − skip(x_clean) where the dictionary has a skip path. Later layers respond.

With all layers constrained the norms' scales are held as well: then everything is linear, and the effects are the direct ones that edges state.
"""

import re
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, TypeGuard

import torch

from microtome.dictionaries import Dictionary, DictionarySet, Transcoder
from microtome.errors import EditInvalid, EditsConflict, FeatureNotFound, StrengthUncalibrated, TokenOutOfRange, nearest
from microtome.models import Edit as Hook
from microtome.models import Frozen, Model, Site
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Tensor
from microtome.steering import (
    Add,
    Batch,
    Clamp,
    Comparison,
    Edit,
    EditSet,
    Feature,
    Multiply,
    Prompt,
    Row,
    Sampling,
    Strength,
    Where,
    Window,
    applied,
    compare,
    raw,
)

Operation: TypeAlias = Literal["set", "multiply", "add"]
_UNITS: Mapping[str, tuple[str, ...]] = {
    "set": ("raw", "max_activation"),
    "multiply": ("current",),
    "add": ("raw", "max_activation", "current"),
}
_TOKENS_AT_ONCE = 512
"""Of all rows of a forward together."""
_NODE = re.compile(r"L(\d+)\.f(\d+)@(?:(\d+)|(-?\d+)?:(-?\d+)?)")


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """A feature at some tokens, given another activation."""

    layer: int
    """Of the site that its dictionary reads."""
    feature: int
    positions: Window
    """Of the prompt, like a slice; open at its end, it goes on over generated tokens."""
    operation: Operation
    """`set` it to the strength, `multiply` it by the strength (−10 … 10 are usual: 0 ablates, 2 doubles), or `add` the strength to it."""
    strength: Strength
    """`set`: `raw` (activation units) or `max_activation`; `multiply`: `current`; `add`: any of the three."""
    max_activation: float | None = None
    """The feature's largest activation in a corpus, for strengths in its multiples."""

    def __post_init__(self) -> None:
        if self.operation not in _UNITS:
            do = nearest(self.operation, _UNITS)
            raise EditInvalid(f'no intervention is called "{self.operation}".', got=self.operation, wanted=", ".join(_UNITS), do=do)
        if self.strength.unit not in _UNITS[self.operation]:
            wanted = ", ".join(_UNITS[self.operation])
            do = "Give the strength in one of these units."
            raise EditInvalid(f'{self.operation} takes no strength "{self.strength.unit}".', got=self.strength, wanted=wanted, do=do)

    @classmethod
    def on(cls, node: str, strength: Strength, *, operation: Operation, max_activation: float | None = None) -> "Intervention":
        """On a node by its id: `L3.f17@4`. `L3.f17@4:9` are the positions 4 to 8; `L3.f17@4:` goes on over what is generated."""
        found = _NODE.fullmatch(node)
        if found is None:
            do = "Take the id of a feature from the graph; errors and embeddings have no activation to change."
            wanted = "L<layer>.f<feature>@<position> or @<start>:<stop>"
            raise EditInvalid(f'"{node}" is not the id of a feature.', got=node, wanted=wanted, do=do)
        one, start, stop = (None if part is None else int(part) for part in found.group(3, 4, 5))
        window = Window(start=start, stop=stop) if one is None else Window(start=one, stop=one + 1)
        return cls(
            layer=int(found[1]), feature=int(found[2]), positions=window, operation=operation, strength=strength, max_activation=max_activation
        )

    def edit(self, *, sites: tuple[Site, ...] = ()) -> Edit:
        """The edit of `steering` that it is, of a dictionary called `L<layer>` (see `by_layer`); `sites`: some of those that it writes."""
        feature = Feature(dictionary=f"L{self.layer}", index=self.feature, max_activation=self.max_activation)
        prompt = Where(positions=(self.positions,))
        where = prompt if self.positions.stop is not None else Where(any_of=(prompt, Where(phases=("generation",))))
        if self.operation == "set":
            return Clamp(feature=feature, strength=self.strength, where=where, sites=sites)
        if self.operation == "multiply":
            return Multiply(feature=feature, strength=self.strength, where=where, sites=sites)
        return Add(component=feature, strength=self.strength, where=where, sites=sites)

    def change(self, activations: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """What is added to each of these activations."""
        value = self.strength.value
        if self.strength.unit == "max_activation":
            if self.max_activation is None:
                do = "Give max_activation; the feature's card shows it."
                what = f"the maximum of L{self.layer}.f{self.feature} is not known."
                raise StrengthUncalibrated(what, got="none", wanted="the maximum in a corpus", do=do)
            value *= self.max_activation
        if self.operation == "set":
            return value - activations
        if self.operation == "multiply":
            return (value - 1) * activations
        return value * activations if self.strength.unit == "current" else torch.full_like(activations, value)


Group: TypeAlias = Sequence[Intervention]
"""Interventions that are made together: a node's, a supernode's, several supernodes'."""


def interventions(nodes: Iterable[str], strength: Strength, *, operation: Operation) -> tuple[Intervention, ...]:
    """The same intervention on each of several nodes, by their ids."""
    return tuple(Intervention.on(node, strength, operation=operation) for node in nodes)


@dataclass(frozen=True, kw_only=True)
class Patching:
    """How what follows from an intervention is computed; see the top of this file."""

    attention: Literal["frozen", "live"] = "frozen"
    """`frozen`: patterns are those of the clean forward, as a graph holds them."""
    end_layer: int | None = None
    """None: iterative. Else the MLPs of layers 0 to this one are constrained; the last layer: norms too, so that effects are direct ones."""

    def __post_init__(self) -> None:
        if self.attention not in ("frozen", "live"):
            raise EditInvalid("attention has no such state.", got=self.attention, wanted="frozen, live", do="Correct it.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Patched:
    """One prompt's forward, clean and under each of several groups of interventions."""

    tokens: tuple[int, ...]
    clean: Float[Tensor, "kept vocab"]
    """Logits at the kept positions; of the same arithmetic as `logits`, so that no intervention is no difference to the bit."""
    logits: Float[Tensor, "groups kept vocab"]
    clean_read: Mapping[Site, Tensor]
    """Activations at the sites that were asked for, `[pos width]`."""
    read: Mapping[Site, Tensor]
    """The same under each group, `[groups pos width]`."""

    def kl(self) -> Float[Tensor, "groups kept"]:
        """KL(clean ‖ patched) of the next token at each kept position, in nats."""
        clean, patched = self.clean.double().log_softmax(-1), self.logits.double().log_softmax(-1)
        return (clean.exp() * (clean - patched)).sum(-1).clamp_min(0).float()

    def change(self) -> Float[Tensor, "groups kept vocab"]:
        """Change of the logits less their mean over the vocabulary, the quantity that logit targets of a graph are about."""
        moved = self.logits - self.clean
        return moved - moved.mean(-1, keepdim=True)


def by_layer(dictionaries: DictionarySet) -> dict[str, Dictionary]:
    """The members under the names that interventions use: `L<layer>` of the site read."""
    return {f"L{member.reads.layer}": member for member in dictionaries.members}


def member_of(dictionaries: DictionarySet, layer: int) -> Dictionary:
    """The member that reads a layer; `FeatureNotFound` where there is none."""
    members = by_layer(dictionaries)
    if f"L{layer}" not in members:
        do = "Choose a layer that has a dictionary."
        raise FeatureNotFound(f"no dictionary of the set reads layer {layer}.", got=layer, wanted=", ".join(members), do=do)
    return members[f"L{layer}"]


@torch.no_grad()
def patch(
    model: Model,
    dictionaries: DictionarySet,
    *,
    prompt: Prompt,
    groups: Sequence[Group],
    patching: Patching = Patching(),  # frozen
    read: Collection[Site] = (),
    keep: Sequence[int] = (-1,),
    progress: Progress | None = None,
) -> Patched:
    """One prompt under each of `groups`, each as if alone; the model is left as it was.

    `keep` are the positions whose logits are returned (−1: the last). A group that changes nothing, run alone, changes no bit. Raises what `applied`
    raises for edits that do not fit, `TokenOutOfRange` for positions outside of the prompt, and `EditInvalid` for an end layer before a change.
    """
    row = Batch.of(model, [prompt]).rows[0]
    for group in groups:
        _check(group, row, end_layer=patching.end_layer)
        for each in group:
            member_of(dictionaries, each.layer)
    kept = _from_end(keep, len(row.tokens))
    run = _Run(model, dictionaries, row=row, patching=patching)
    sites = tuple(model.site(site) for site in dict.fromkeys(read))
    at_once, report = max(1, _TOKENS_AT_ONCE // len(row.tokens)), Throttled(progress)
    with _held(model, row, patching):
        clean = run.first(read=sites, keep=kept)
        parts: list[_Forward] = []
        for start in range(0, len(groups), at_once):
            parts.append(run.changed(groups[start : start + at_once], read=sites, keep=kept))
            report("interventions", min(start + at_once, len(groups)), len(groups), unit="forwards")
    return Patched(
        tokens=row.tokens,
        clean=clean.logits[0],
        logits=torch.cat([clean.logits[:0], *(part.logits for part in parts)]),
        clean_read={site: clean.read[site][0] for site in sites},
        read={site: torch.cat([clean.read[site][:0], *(part.read[site] for part in parts)]) for site in sites},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepPoint:
    """A group of interventions under one end layer."""

    end_layer: int | None
    """None: iterative."""
    patched: Patched


def sweep_end_layers(
    model: Model,
    dictionaries: DictionarySet,
    *,
    prompt: Prompt,
    group: Group,
    attention: Literal["frozen", "live"] = "frozen",
    ends: Sequence[int] | None = None,
    keep: Sequence[int] = (-1,),
) -> tuple[SweepPoint, ...]:
    """The same interventions under each end layer (default: from the last layer changed to the last there is), then iteratively.

    The later the end, the fewer MLPs respond: an effect that fades on the way came through those, and what is left at the last layer is direct.
    """
    last = max((each.layer for each in group), default=0)
    chosen = (*(range(last, model.n_layers) if ends is None else ends), None)
    settings = [Patching(attention=attention, end_layer=end) for end in chosen]
    runs = [patch(model, dictionaries, prompt=prompt, groups=[group], patching=each, keep=keep) for each in settings]
    return tuple(SweepPoint(end_layer=end, patched=patched) for end, patched in zip(chosen, runs, strict=True))


def continuations(
    model: Model,
    dictionaries: DictionarySet,
    *,
    prompt: Prompt,
    group: Group,
    sampling: Sampling = Sampling(),  # noqa: B008  # frozen
) -> Comparison:
    """The prompt continued without and with the interventions, side by side, with the same random numbers. Iterative, attention live.

    Positions that are open at their end go on over what is generated.
    """
    edits = EditSet(edits=tuple(each.edit() for each in group))
    return compare(model, prompt, edits=edits, sampling=sampling, dictionaries=by_layer(dictionaries))


class _Forward(NamedTuple):
    logits: Float[Tensor, "rows kept vocab"]
    read: dict[Site, Float[Tensor, "rows pos width"]]


class _Run:
    """Forwards of one prompt, and what its clean one held."""

    def __init__(self, model: Model, dictionaries: DictionarySet, *, row: Row, patching: Patching) -> None:
        self._model = model
        self._members = by_layer(dictionaries if model.device.type == "cpu" else dictionaries.to(model.device))
        self._row = row
        self._end = patching.end_layer
        layers = range(0 if self._end is None else self._end + 1)
        self._held = tuple(model.site(Site("mlp_out", layer)) for layer in layers)
        self._skips = {each.writes[0]: each for each in self._members.values() if _has_skip(each) and each.writes[0] in self._held}
        self._clean: dict[Site, Float[Tensor, "pos width"]] = {}

    def first(self, *, read: Collection[Site], keep: Sequence[int]) -> _Forward:
        """The clean forward; what is held is recorded in it."""
        reads = tuple(member.reads for member in self._members.values())
        needed = () if self._end is None else (*self._held, *reads)
        found = self._forward([EditSet()], read=(*read, *needed), keep=keep)
        self._clean = {site: found.read[site][0].clone() for site in needed}
        return found

    def changed(self, groups: Sequence[Group], *, read: Collection[Site], keep: Sequence[int]) -> _Forward:
        """A row for each group."""
        edits = [tuple(edit for each in group for edit in self._edits(each)) for group in groups]
        with self._model.tap(edit=self._holds()):
            return self._forward([EditSet(edits=each) for each in edits], read=read, keep=keep)

    def _forward(self, sets: Sequence[EditSet], *, read: Collection[Site], keep: Sequence[int]) -> _Forward:
        model = self._model
        batch = Batch.of(model, [self._row] * len(sets))
        with applied(model, sets, batch=batch, dictionaries=self._members), model.tap(read=tuple(dict.fromkeys(read))) as seen:
            logits = model.logits(batch.tokens, last=-min(keep, default=-1))
        return _Forward(logits=logits[:, list(keep)].float(), read={site: seen[site] for site in read})

    def _edits(self, intervention: Intervention) -> tuple[Edit, ...]:
        """Iterative: one edit, which reads what it finds. Constrained: an addition for each token, of a size that is known beforehand."""
        member = self._members[f"L{intervention.layer}"]
        sites = tuple(site for site in member.writes if self._end is None or (site.layer or 0) <= self._end)
        sites = tuple(site for site in sites if bool(member.direction(intervention.feature, write=site).any())) or sites
        if self._end is None:
            return (intervention.edit(sites=sites),)
        positions = list(intervention.positions.over(len(self._row.tokens)))
        codes = member.encode(self._clean[member.reads][positions].float())
        clean = torch.where(codes.indices == intervention.feature, codes.values, 0).sum(1).float()
        feature = Feature(dictionary=f"L{intervention.layer}", index=intervention.feature)
        return tuple(
            Add(component=feature, strength=raw(change), sites=sites, where=Where(positions=(Window(start=position, stop=position + 1),)))
            for position, change in zip(positions, intervention.change(clean).tolist(), strict=True)
        )

    def _holds(self) -> dict[Site, Hook]:
        """What the constrained MLPs write: what they wrote, and what a skip path makes of the change of what it reads."""
        now: dict[Site, Tensor] = {}

        def note(site: Site) -> Hook:
            def keep(x: Tensor) -> None:
                now[site] = x

            return keep

        def hold(site: Site) -> Hook:
            def held(x: Tensor) -> Tensor:
                wrote = self._clean[site].expand_as(x)
                member = self._skips.get(site)
                if member is None:
                    return wrote
                moved = (now[member.reads] - self._clean[member.reads]).float()
                return wrote + member.skip(moved.flatten(0, 1)).view_as(x)

            return held

        return {**{member.reads: note(member.reads) for member in self._skips.values()}, **{site: hold(site) for site in self._held}}


@contextmanager
def _held(model: Model, row: Row, patching: Patching) -> Generator[None]:
    """Holds patterns, if they are to be, and norms, if every MLP is."""
    patterns, norms = patching.attention == "frozen", patching.end_layer == model.n_layers - 1
    if not patterns and not norms:
        yield
        return
    with Frozen(model, torch.tensor(row.tokens)).holding(patterns=patterns, norms=norms):
        yield


def _from_end(positions: Sequence[int], n: int) -> list[int]:
    """The positions counted from the end; `TokenOutOfRange` for one that is not there."""
    for position in positions:
        if not -n <= position < n:
            do = "Keep positions of the prompt."
            raise TokenOutOfRange("logits are to be kept at no token of the prompt.", got=position, wanted=f"0 to {n - 1}", do=do)
    return [position if position < 0 else position - n for position in positions]


def _has_skip(member: Dictionary) -> TypeGuard[Transcoder]:
    return isinstance(member, Transcoder) and member.W_skip is not None


def _check(group: Group, row: Row, *, end_layer: int | None) -> None:
    """Raise for positions that are not there, for a feature that is changed twice at a token, and for a change beyond the end layer."""
    n, seen = len(row.tokens), set[tuple[int, int, int]]()
    for each in group:
        start, stop = each.positions.start, each.positions.stop
        positions = each.positions.over(n)
        if not len(positions) or any(place is not None and not -n <= place <= n for place in (start, stop)):
            do = "Choose positions of the prompt."
            raise TokenOutOfRange("an intervention is not at a token of the prompt.", got=f"{start}:{stop}", wanted=f"0 to {n - 1}", do=do)
        if end_layer is not None and each.layer > end_layer:
            what = f"a change of layer {each.layer} lies beyond the end layer."
            raise EditInvalid(what, got=end_layer, wanted=f"{each.layer} or later", do="Choose a later end layer, or none.")
        places = {(each.layer, each.feature, position) for position in positions}
        if places & seen:
            do = "Say once what becomes of it."
            raise EditsConflict(
                f"L{each.layer}.f{each.feature} is changed twice at a token.", got="an order that matters", wanted="one change", do=do
            )
        seen |= places
