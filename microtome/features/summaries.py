"""What components do together on a corpus of which nothing else is kept: the sums that links are made of, added up while the text goes by.

An index keeps every firing (330 bytes a token at k 32), which a corpus of billions of tokens does not allow. A summary keeps, for some components,
five numbers a feature however long the corpus is; `index.downstream(…, over=summary)` and `upstream` then answer as if the corpus were indexed.

| file | holds |
|---|---|
| `sums.safetensors` | `down` f64 [components, features, 3], over the tokens where component c fires: sums of a_c a_f s_f, of a_c s_f where f fires, |
| … | and how many those are; s_f is the scale of the norm before f |
| … | `up` f64 [components, features, 2]: sums of a_c s_c a_f and of s_c a_f, with s_c the scale of the norm before c |
| … | `own` f64 [components, 2]: tokens where c fires, sum of a_c. `totals` f64 [features]: sum of a_f |
| … | `done` i64 [2]: ranges of the corpus that are in it, kept tokens of them |
| `summary.json` | what the components are |
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

import numpy as np

from microtome.activations import Corpus, Shards
from microtome.artifacts import Artifact, Draft, Opened, existing
from microtome.config import fingerprint
from microtome.errors import QueryInvalid, ShapeMismatch
from microtome.features.arrays import Array, open_arrays, write_arrays
from microtome.features.coactivation import Sums, sums_of
from microtome.features.components import Component, active_at
from microtome.features.downstream import own_norm
from microtome.features.norms import Norms
from microtome.features.passes import Batch, ForwardPass, Pass, ShardPass, Visited
from microtome.features.postings import ForwardRows, write_forward
from microtome.features.store import Store
from microtome.models import Model
from microtome.progress import Progress, Throttled

KIND = "summary"
_SUMS, _FACTS = "sums.safetensors", "summary.json"
T = TypeVar("T")


@final
class Summary(Opened):
    """Sums over a corpus, opened."""

    kind: ClassVar[str] = KIND

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._sums = open_arrays(artifact.file(_SUMS))
        facts = json.loads(artifact.file(_FACTS).read_bytes())
        self.components: list[dict[str, Any]] = facts["components"]
        self.corpus: str = facts["corpus"]
        """The corpus' name."""
        self.inputs: dict[str, str] = dict(artifact.manifest.inputs)

    @property
    def kept(self) -> int:
        """Tokens of the corpus that take part."""
        return int(self._sums["done"][1])

    @property
    def totals(self) -> Array:
        """By feature, the sum of its activations, float64."""
        return np.asarray(self._sums["totals"])

    def tokens(self, what: int | Component) -> int:
        """On how many of them a component fires."""
        return int(self._sums["own"][self._place(what), 0])

    def total(self, what: int | Component) -> float:
        """The sum of its activations."""
        return float(self._sums["own"][self._place(what), 1])

    def down(self, what: int | Component) -> Sums:
        """What downstream links are made of."""
        found = np.asarray(self._sums["down"][self._place(what)])
        return Sums(product=found[:, 0], gate=found[:, 1], count=found[:, 2])

    def up(self, what: int | Component) -> tuple[Sums, Array]:
        """What upstream links are made of: TWERA's sums, and ERA's."""
        place = self._place(what)
        found = np.asarray(self._sums["up"][place])
        return Sums(product=found[:, 0], gate=found[:, 1], count=np.asarray(self._sums["down"][place, :, 2])), found[:, 1]

    def check(self, store: Store) -> None:
        """Raise `ShapeMismatch` for a summary of another dictionary or model than the index'."""
        mine, wanted = ({name: inputs[name] for name in ("dictionary", "model")} for inputs in (self.inputs, store.inputs))
        if mine != wanted:
            do = "Make the summary with this index: index.summarise([…], corpus=corpus, model=model, out=…)."
            raise ShapeMismatch("the summary is of another dictionary or model.", got=mine, wanted=wanted, do=do)

    def _place(self, what: int | Component) -> int:
        wanted = _said(what)
        if wanted not in self.components:
            names = ", ".join(_name(each) for each in self.components)
            do = "Ask the index itself, or make a summary with it: index.summarise([…], …)."
            raise QueryInvalid(f"the summary {self.path.name} does not hold {_name(wanted)}.", got=_name(wanted), wanted=names, do=do)
        return self.components.index(wanted)


def summarise(
    store: Store,
    what: Sequence[int | Component],
    *,
    corpus: Corpus,
    model: Model,
    out: str | Path,
    shards: Shards | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Make the summary artifact at `out` of features and directions of an index over another corpus, or open it when it is there.

    The activations come from `shards` of that corpus or else from the model's forward. A range of tokens is encoded, added up and dropped, so that
    disk and memory do not grow with the corpus; an interrupted run goes on behind the last whole range, with the same result.

    Raises `QueryInvalid` (no component, or one twice), `FeatureNotFound`, `ShapeMismatch` (another model, tokenizer or corpus, or norms whose scale
    the index measured and the shards do not hold), `ArtifactConflict`, `WorkspaceBusy`, `DiskFull`.
    """
    components = [_said(each if isinstance(each, Component) else store.known(each)) for each in what]
    names = [_name(each) for each in components]
    if not components or len(set(names)) < len(names):
        do = "Name at least one feature or direction, each once."
        raise QueryInvalid("these are no components to sum up.", got=", ".join(names) or "none", wanted="different ones", do=do)
    store.check_model(model)
    if shards is not None and (shards.corpus_id != corpus.id or shards.model_fingerprint != model.fingerprint):
        do = "Give the corpus that the shards were harvested from, and their model."
        raise ShapeMismatch("the shards are of another corpus or model.", got=shards.corpus_id, wanted=corpus.id, do=do)
    inputs = {"corpus": corpus.id, "dictionary": store.inputs["dictionary"], "model": model.fingerprint}
    if shards is not None:
        inputs["shards"] = shards.id
    config = {"components": components, "values": store.config.values}
    if existing(out, KIND, config=config, inputs=inputs) is None:
        norms = Norms(store.members, model, available=None if shards is None else shards.sites)
        scaled = [read.scaled for read in norms.reads]
        if scaled != [read.scaled for read in store.wiring.reads]:
            do = "Give shards that hold the stream before every norm, as the index had (or had not)."
            what_differs = "the norms' scales are measured in the index or here alone, so that the sums would not be comparable."
            raise ShapeMismatch(what_differs, got=scaled, wanted=[read.scaled for read in store.wiring.reads], do=do)
        with Draft.open(out, KIND, config=config, inputs=inputs) as draft:
            _sum_up(draft, store, what, corpus=corpus, model=model, norms=norms, shards=shards, tell=Throttled(progress))
            draft.write(_FACTS, json.dumps({"components": components, "corpus": corpus.path.name}, indent=1, ensure_ascii=False) + "\n")
            draft.finish(summary={"components": names, "tokens": corpus.n_tokens, "model": model.ref})
    return Summary.open(out)


def _sum_up(
    draft: Draft,
    store: Store,
    what: Sequence[int | Component],
    *,
    corpus: Corpus,
    model: Model,
    norms: Norms,
    shards: Shards | None,
    tell: Throttled,
) -> None:
    members, n, f = store.members, len(what), store.n_features
    sites = tuple(sorted({*members.inputs, *norms.streams, *(each.site for each in what if isinstance(each, Component))}))
    source = ShardPass(shards, sites) if shards is not None else ForwardPass(model, corpus, sites=sites, counted=members.inputs)
    if draft.has(_SUMS):
        held = {name: np.array(array) for name, array in open_arrays(draft.path / _SUMS).items()}
    else:
        held = {"down": np.zeros((n, f, 3)), "up": np.zeros((n, f, 2)), "own": np.zeros((n, 2)), "totals": np.zeros(f), "done": np.zeros(2, np.int64)}
    for number in range(int(held["done"][0]), len(source.ranges)):
        seen, file = _Watched(source, [each for each in what if isinstance(each, Component)]), draft.path / "range.partial"
        write_forward(file, seen, number, members=members, scales=norms.scales, values=store.config.values)
        arrays = {name: np.asarray(array) for name, array in open_arrays(file).items()}
        held["totals"] += np.bincount(arrays["ids"], weights=arrays["values"], minlength=f)
        for place, each in enumerate(what):
            rows, values = seen.firings(each, arrays["keep"]) if isinstance(each, Component) else _firings(each, arrays)
            _add(held, place, ForwardRows(rows=rows, arrays=arrays), values=values, own=own_norm(store, each), n_members=len(members))
        held["done"] += (1, int(arrays["keep"].sum()))
        file.unlink()
        with draft.place(_SUMS) as sums:
            write_arrays(sums, held)
        tell("add up", source.ranges[number][1], corpus.n_tokens, unit="tokens")


def _add(held: dict[str, Array], place: int, forward: ForwardRows, *, values: Array, own: int | None, n_members: int) -> None:
    """Add what a range of tokens says of one component, active on some rows; `own` is the member whose norm is before it."""
    rows = forward.rows
    scales = None if own is None else forward.scales(range(own, own + 1))
    scale = np.ones(len(rows)) if scales is None else scales[:, 0].astype(np.float64)
    members, f = range(n_members), len(held["totals"])

    def summed(weights: Array, *, scaled: bool) -> Sums:
        return sums_of([(np.arange(len(rows)), forward)], weights, n_features=f, members=members, n_members=n_members, scaled=scaled)

    down = summed(values, scaled=True)
    held["down"][place] += np.stack([down.product, down.gate, down.count], 1)
    held["up"][place] += np.stack([summed(weights, scaled=False).product for weights in (values * scale, scale)], 1)
    held["own"][place] += (len(rows), values.sum())


@final
class _Watched:
    """A pass in which directions are projected on, beside what else it is used for."""

    def __init__(self, source: Pass, directions: Sequence[Component]) -> None:
        self.ranges = source.ranges
        self._source, self._directions = source, directions
        self._seen: list[tuple[Array, dict[str, Array]]] = []

    def visit(self, number: int, call: Callable[[Batch], T]) -> Visited[T]:
        """See `Pass`."""

        def watched(batch: Batch) -> T:
            found = {each.name: (batch.inputs[each.site].float().cpu() @ each.vector).numpy() for each in self._directions}
            self._seen.append((batch.positions, found))
            return call(batch)

        return self._source.visit(number, watched)

    def firings(self, direction: Component, keep: Array) -> tuple[Array, Array]:
        """The rows of the range on which a direction is active, and its activations there."""
        parts = [(positions, found[direction.name]) for positions, found in self._seen]
        rows, values = active_at(parts, keep=keep, signed=direction.signed)
        return rows, values.astype(np.float64)


def _firings(feature: int, arrays: dict[str, Array]) -> tuple[Array, Array]:
    """The rows of a range on which a feature fires, and its activations there."""
    entries = np.flatnonzero(arrays["ids"] == feature)
    return np.searchsorted(arrays["indptr"], entries, side="right") - 1, arrays["values"][entries].astype(np.float64)


def _said(what: int | Component) -> dict[str, Any]:
    """What a summary notes of a component; two are the same where this is."""
    if isinstance(what, Component):
        vector = fingerprint(what.vector.tolist())
        return {"direction": what.name, "site": str(what.site), "signed": what.signed, "vector": vector}
    return {"feature": int(what)}


def _name(said: dict[str, Any]) -> str:
    return f"feature {said['feature']}" if "feature" in said else said["direction"]
