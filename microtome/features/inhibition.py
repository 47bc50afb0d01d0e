"""The inhibition that TWERA cannot see: features that are silent where a source fires, and would not be without it.

A suppressed target is inactive, so its co-activation with the source is 0. Here the source is taken away instead: on a sample of its firings, what
each later dictionary reads is encoded as it is, and once more without what the source adds to it directly (the norm's scale as it was). Features
whose activation rises, and against which the source writes (V < 0), are what it suppresses; any nonlinearity, TopK's competition included, is in it.
"""

from typing import NamedTuple

import numpy as np
import torch

from microtome.errors import QueryInvalid
from microtome.features.arrays import Array
from microtome.features.components import Component
from microtome.features.context import mix
from microtome.features.downstream import asked, best
from microtome.features.links import Suppressed
from microtome.features.members import Codes
from microtome.features.store import Store
from microtome.models import Model, Site
from microtome.shapes import Tensor


class Released(NamedTuple):
    """What a sample showed."""

    features: tuple[Suppressed, ...]
    n_tokens: int


def suppressed(store: Store, what: int | Component, *, model: Model, sample: int, limit: int) -> Released:
    """Features behind a component that would fire more without it, the most released first."""
    if sample < 1:
        raise QueryInvalid("the sample is empty.", got=sample, wanted="at least 1 token", do="Give sample=64, say.")
    store.check_model(model)
    source = asked(store, what)
    picked = _drawn(source.positions, n=sample, seed=store.config.seed)
    wiring = store.wiring
    vectors = {what.site: what.vector} if isinstance(what, Component) else wiring.writes(what)
    weight, reached = wiring.outgoing(vectors, own=source.member)
    total, count = np.zeros(store.n_features), np.zeros(store.n_features, np.int64)
    if reached and len(picked):
        amounts = torch.from_numpy(source.values[picked].astype(np.float32))
        inputs = _captured(store, model, source.positions[picked])
        scales = _scales(store, source.positions[picked], n_members=len(wiring.members))
        without = dict(inputs)
        before = store.members.encode(inputs)
        for member in reached:
            vector = wiring.arriving(vectors, member)
            assert vector is not None
            taken = (amounts * torch.from_numpy(scales[:, member]))[:, None] * vector
            for site, part in zip(wiring.members.dictionaries[member].inputs, taken.split(wiring.members.widths(member), 1), strict=True):
                without[site] = inputs[site] - part
        after = store.members.encode(without)
        _add(before, after, total=total, count=count)
    gained = np.where(weight < 0, total / max(1, len(picked)), 0.0)
    labels, densities = store.labels(), store.rows.numbers["density"]
    found: list[Suppressed] = []
    for feature in map(int, best(gained, limit=limit)):
        place = store.numbering.place(feature)
        found.append(
            Suppressed(
                feature=feature,
                site=str(place.site),
                number=place.number,
                label=labels[feature],
                released=float(gained[feature]),
                count=int(count[feature]),
                weight=float(weight[feature]),
                density=float(densities[feature]),
            )
        )
    return Released(tuple(found), len(picked))


def _drawn(positions: Array, *, n: int, seed: int) -> Array:
    """At most `n` of the firings, drawn by a seeded hash of their positions, in the order of the corpus."""
    keys = mix(mix(positions.astype(np.uint64)) + np.uint64(seed))
    return np.sort(np.argsort(keys, kind="stable")[:n])


def _captured(store: Store, model: Model, positions: Array) -> dict[Site, Tensor]:
    """What the dictionaries read on some tokens, each context run up to its last one of them."""
    contexts = store.corpus.context_of(positions)
    found: dict[Site, list[Tensor]] = {site: [] for site in store.members.inputs}
    for context in np.unique(contexts).tolist():
        here = positions[contexts == context]
        start = int(store.corpus.context_start[context])
        tokens = torch.from_numpy(np.asarray(store.corpus.tokens[start : int(here[-1]) + 1]).astype(np.int64))
        captured = model.capture(tokens[None], store.members.inputs)
        for site, x in captured.items():
            found[site].append(x[0, torch.from_numpy(here - start).to(x.device)].float().cpu())
    return {site: torch.cat(rows) for site, rows in found.items()}


def _scales(store: Store, positions: Array, *, n_members: int) -> Array:
    found = np.ones((len(positions), n_members), np.float32)
    for here, forward in store.postings.forward(positions):
        scales = forward.scales(range(n_members))
        if scales is not None:
            found[here] = scales
    return found


def _add(before: Codes, after: Codes, *, total: Array, count: Array) -> None:
    """Token by token, by how much each feature rises (negative activations count as 0), and whether it is new."""
    for token in range(len(before.indptr) - 1):
        old, new = (slice(int(codes.indptr[token]), int(codes.indptr[token + 1])) for codes in (before, after))
        was = np.zeros(len(total), np.float32)
        was[before.ids[old]] = np.maximum(before.values[old], 0)
        now = np.maximum(after.values[new], 0)
        ids = after.ids[new]
        total[ids] += np.maximum(now - was[ids], 0)
        count[ids] += (was[ids] == 0) & (now > 0)
