"""What a component feeds and what feeds it: ERA and TWERA from the postings, for one source or one target at a time.

For source i and target j, over the kept tokens t of the store, with s_j(t) the scale of the norm before j and V_ij the virtual weight (`wiring.py`):

    TWERA_ij = sum_t a_j(t) a_i(t) s_j(t) / sum_t a_j(t) · V_ij          ERA_ij = mean_t 1(a_j(t) > 0) a_i(t) s_j(t) · V_ij

(Ameisen et al. 2025, "Circuit tracing", global weights; there without s.) a_i(t) s_j(t) V_ij is exactly what i adds to j's pre-activation along the
residual stream alone, with the norm's scale as it was. Co-activations are summed over the rows of the tokens where the one component fires.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array
from microtome.features.coactivation import Sums, sums
from microtome.features.components import Component
from microtome.features.links import Link, Links
from microtome.features.norms import AFTER_NORM, STREAM
from microtome.features.store import Store
from microtome.features.wiring import Reading, Wiring

RANKS = ("twera", "era")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A component with its firings."""

    name: str
    feature: int | None
    label: str
    member: int | None
    """The member it is a feature of; None for a direction."""
    positions: Array
    values: Array


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of every feature, with the one component."""

    twera: Array
    era: Array
    weight: Array
    count: Array
    reached: list[int]
    """Members that lie downstream, or upstream."""


def asked(store: Store, what: int | Component) -> Asked:
    """A feature by its id, or a direction, with its firings."""
    if isinstance(what, Component):
        return Asked(name=what.name, feature=None, label="", member=None, positions=what.positions, values=what.values)
    feature = store.known(what)
    firings = store.postings.feature(feature)
    member = store.numbering.place(feature).member
    label = store.labels()[feature]
    return Asked(name=f"feature {feature}", feature=feature, label=label, member=member, positions=firings.positions, values=firings.values)


@runtime_checkable
class Over(Protocol):
    """Sums over a corpus that stand in for the postings (`summaries.py`)."""

    corpus: str

    @property
    def kept(self) -> int: ...

    @property
    def totals(self) -> Array: ...

    def tokens(self, what: int | Component) -> int: ...

    def total(self, what: int | Component) -> float: ...

    def down(self, what: int | Component) -> Sums: ...

    def up(self, what: int | Component) -> tuple[Sums, Array]: ...


def downstream_scores(store: Store, source: Asked, what: int | Component, *, over: Over | None = None) -> Scores:
    """TWERA and ERA of one source to every feature behind it."""
    wiring = store.wiring
    vectors = {what.site: what.vector} if isinstance(what, Component) else wiring.writes(what)
    wiring.check(range(len(wiring.members)))
    weight, reached = wiring.outgoing(vectors, own=source.member)
    if over is None:
        members, kept = _range(reached), store.facts["kept"]
        found = sums(store.postings, source.positions, source.values, members=members, n_members=len(wiring.members), scaled=True)
        total = store.rows.numbers["mean"].astype(np.float64) * store.rows.numbers["count"]
    else:
        found, total, kept = over.down(what), over.totals, over.kept
    twera = np.divide(found.product, total, out=np.zeros_like(total), where=total > 0) * weight
    return Scores(twera=twera, era=found.gate / max(1, kept) * weight, weight=weight, count=found.count, reached=reached)


def upstream_scores(store: Store, target: Asked, what: int | Component, *, over: Over | None = None) -> Scores:
    """TWERA and ERA of every feature before one target."""
    wiring = store.wiring
    if isinstance(what, Component):
        if what.signed:
            do = "Make the component with signed=False, or twice, with the direction and with its opposite."
            raise QueryInvalid("a signed direction is no target.", got="signed=True", wanted="activations that are never negative", do=do)
        readings = _readings(wiring, what)
    else:
        readings = wiring.readings(what)
        wiring.check([] if target.member is None else [target.member])
    weight, reached = wiring.incoming(readings, own=target.member)
    if over is None:
        n, members, kept = len(wiring.members), _range(reached), store.facts["kept"]
        scale = _scales(store, target.positions, own_norm(store, what))
        found = sums(store.postings, target.positions, target.values.astype(np.float64) * scale, members=members, n_members=n, scaled=False)
        # For ERA the gate is the target's, and it is what sums over the sources' activations.
        gated = sums(store.postings, target.positions, scale, members=members, n_members=n, scaled=False).product
        total = float(target.values.astype(np.float64).sum())
    else:
        (found, gated), total, kept = over.up(what), over.total(what), over.kept
    twera = found.product / total * weight if total else np.zeros(len(weight))
    return Scores(twera=twera, era=gated / max(1, kept) * weight, weight=weight, count=found.count, reached=reached)


def own_norm(store: Store, what: int | Component) -> int | None:
    """The member whose norm is before what a component reads; None for a direction that reads the stream itself, or where nothing is known."""
    if not isinstance(what, Component):
        return store.numbering.place(what).member
    if what.site.kind in STREAM or what.site not in store.numbering.sites:
        return None
    return store.numbering.member(what.site)


def links(store: Store, what: int | Component, *, way: Literal["downstream", "upstream"], rank: str, limit: int, over: Over | None = None) -> Links:
    """The strongest links of one component, those that raise and those that lower apart."""
    if rank not in RANKS:
        raise QueryInvalid(f'links have no rank "{rank}".', got=rank, wanted=", ".join(RANKS), do=nearest(rank, RANKS))
    component = asked(store, what)
    scored = downstream_scores if way == "downstream" else upstream_scores
    scores = scored(store, component, what, over=over)
    values = scores.twera if rank == "twera" else scores.era
    sites = store.numbering
    return Links(
        index=store.name,
        name=component.name,
        feature=component.feature,
        label=component.label,
        way=way,
        rank=rank,
        scale=_scale_said(store, scores.reached if way == "downstream" else [] if component.member is None else [component.member]),
        n_tokens=len(component.positions) if over is None else over.tokens(what),
        over="" if over is None else over.corpus,
        n_reached=sum(int(sites.starts[member + 1] - sites.starts[member]) for member in scores.reached),
        promotes=_listed(store, scores, best(values, limit=limit)),
        suppresses=_listed(store, scores, best(-values, limit=limit)),
    )


def best(values: Array, *, limit: int) -> Array:
    """Features of the largest positive values, largest first, equal ones by number."""
    positive = np.flatnonzero(values > 0)
    if len(positive) > limit > 0:
        edge = np.partition(values[positive], len(positive) - limit)[len(positive) - limit]
        positive = positive[values[positive] >= edge]
    return positive[np.argsort(-values[positive], kind="stable")][: max(0, limit)]


def _listed(store: Store, scores: Scores, features: Array) -> tuple[Link, ...]:
    labels, densities = store.labels(), store.rows.numbers["density"]
    found: list[Link] = []
    for feature in map(int, features):
        place = store.numbering.place(feature)
        found.append(
            Link(
                feature=feature,
                site=str(place.site),
                number=place.number,
                label=labels[feature],
                twera=float(scores.twera[feature]),
                era=float(scores.era[feature]),
                weight=float(scores.weight[feature]),
                count=int(scores.count[feature]),
                density=float(densities[feature]),
            )
        )
    return tuple(found)


def _range(members: list[int]) -> range:
    return range(min(members), max(members) + 1) if members else range(0)


def _scales(store: Store, positions: Array, member: int | None) -> Array:
    """The norm's scale before one member on some tokens; 1 where there is none."""
    found = np.ones(len(positions))
    if member is not None:
        for here, forward in store.postings.forward(positions):
            scales = forward.scales(range(member, member + 1))
            if scales is not None:
                found[here] = scales[:, 0]
    return found


def _readings(wiring: Wiring, target: Component) -> list[Reading]:
    """How a direction reads the stream: as it is, or through the norm before a member that reads the same site."""
    if target.site.kind in STREAM:
        return [Reading(target.site, target.site, target.vector)]
    if target.site in wiring.members.numbering.sites:
        read = wiring.reads[wiring.members.numbering.member(target.site)]
        if read.stream is not None:
            return [Reading(target.site, read.stream, read.unfold(target.vector))]
    do = "Take a direction of the residual stream, or of a site that a dictionary of the index reads."
    raise QueryInvalid(f"it is not known how {target.site} reads the residual stream.", got=target.site, wanted="a site of the stream", do=do)


def _scale_said(store: Store, members: list[int]) -> str:
    reads = [store.wiring.reads[member] for member in members if store.numbering.sites[member].kind in AFTER_NORM]
    normed = [read for read in reads if read.gain is not None]
    if not normed:
        return "none"
    return "measured" if all(read.scaled for read in normed) else "left out"
