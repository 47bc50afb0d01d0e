"""Any direction as a component of an index: a probe, a persona or a steering vector, with its activation on every token of the corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from microtome.activations import Shards
from microtome.errors import QueryInvalid, ShapeMismatch
from microtome.features.arrays import Array
from microtome.features.passes import Batch, ForwardPass, Pass, ShardPass
from microtome.models import Model, Site
from microtome.shapes import Float, Tensor

if TYPE_CHECKING:
    from microtome.features.store import Store


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """A direction u of length 1 that is read and written at one site: its activation on a token is ReLU(h·u), or h·u when it is signed."""

    name: str
    site: Site
    vector: Float[Tensor, "d_model"]
    """u."""
    signed: bool
    positions: Array
    """Kept tokens of the corpus where the activation is not 0, ascending."""
    values: Array
    """Activations there, float32."""


def component(store: "Store", site: Site, vector: Float[Tensor, "d_model"], *, source: Shards | Model, signed: bool, name: str) -> Component:
    """Project every kept token of the index' corpus on a direction."""
    length = float(vector.float().norm())
    if not np.isfinite(length) or length == 0:
        do = "Give a vector that has a direction."
        raise QueryInvalid("the direction has no length.", got=length, wanted="a vector that is not 0 and is finite", do=do)
    unit = vector.detach().float().cpu() / length
    rows = _pass(store, site, source)
    parts: list[tuple[Array, Array]] = []

    def project(batch: Batch) -> tuple[Array, Array]:
        x = batch.inputs[site].float().cpu()
        if x.shape[1] != len(unit):
            raise ShapeMismatch(f"the direction does not fit {site}.", got=len(unit), wanted=x.shape[1], do="Give a vector of that site's width.")
        return batch.positions, (x @ unit).numpy()

    for number, (start, _) in enumerate(rows.ranges):
        parts += [(at + start, value) for at, value in rows.visit(number, project).results]
    positions, values = active_at(parts, keep=store.postings.keep(), signed=signed)
    return Component(name=name or f"direction at {site}", site=site, vector=unit, signed=signed, positions=positions, values=values)


def active_at(parts: Sequence[tuple[Array, Array]], *, keep: Array, signed: bool) -> tuple[Array, Array]:
    """The kept tokens on which a direction is active, ascending, and its activations there, from projections that come in parts of any order."""
    positions = np.concatenate([np.zeros(0, np.int64), *(at for at, _ in parts)])
    values = np.concatenate([np.zeros(0, np.float32), *(value for _, value in parts)])
    active = np.flatnonzero(keep[positions] & ((values != 0) if signed else (values > 0)))
    active = active[np.argsort(positions[active], kind="stable")]
    return positions[active], values[active]


def _pass(store: "Store", site: Site, source: Shards | Model) -> Pass:
    if isinstance(source, Model):
        store.check_model(source)
        return ForwardPass(source, store.corpus, sites=(source.site(site),), counted=())
    if source.corpus_id != store.corpus.id or source.model_fingerprint != store.inputs["model"]:
        do = "Give shards of the corpus and the model that the index was made of, or the model itself."
        raise ShapeMismatch("the shards are of another corpus or model.", got=source.corpus_id, wanted=store.corpus.id, do=do)
    return ShardPass(source, (site,))
