"""`trace`: from a prompt and a target to a graph."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from microtome.artifacts import read_manifest
from microtome.circuits.collect import Collected, Entries, entries_of
from microtome.circuits.engine_autograd import AutogradEngine
from microtome.circuits.engine_sweep import SweepEngine
from microtome.circuits.graph import TARGET, Graph, Nodes
from microtome.circuits.replacement import Missing, Replacement, members_of
from microtome.circuits.sources import Columns, Sources
from microtome.circuits.targets import Named, Rows, Target, feature_rows, joined, positions_of, rows_of, sites_of, targets_of
from microtome.circuits.turns import by_columns, turn_columns
from microtome.config import fingerprint, to_dict
from microtome.devices import RunAll, Scratch, core_workers
from microtome.dictionaries import SAE, Dictionary, DictionarySet, Transcoder, load_any
from microtome.errors import ConfigError, GraphUnbalanced, ShapeMismatch, TokenOutOfRange
from microtome.models import Model, TurnSpan
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Int, Tensor

_AT_ONCE_BYTES = 1 << 28
"""A batch that needs more is made alone, by all cores."""
EngineName: TypeAlias = Literal["auto", "sweep", "autograd"]


@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """How a graph is traced."""

    max_rows: int = 2000
    """Features whose own inputs are traced, at most; the rest stay as sources."""
    influence: float = 1.0
    """Stop expanding when the features that were expanded hold this share of all features' influence; 1 goes on to `max_rows`."""
    edges_per_row: int | None = None
    """Edges stored of each row, half of them the strongest from features, the rest the strongest others; the remainder as a sum. None: all."""
    batch_rows: int = 32
    """Rows of one backward sweep: more make larger products, but rows of nearer positions share less of the work."""
    update_rows: int = 512
    """Rows between two estimates of influence."""
    engine: EngineName = "auto"
    """`sweep`, `autograd` (any family), or `auto`: the sweep where it knows the family."""
    missing: Missing = "refuse"
    """A layer without a transcoder is refused, or its MLP is an `error` as a whole."""
    tolerance: float | None = None
    """Largest balance that is let pass; None: 1e-3 in float32, 0.1 in half precision."""

    def __post_init__(self) -> None:
        _positive("max_rows", self.max_rows, least=0)
        _positive("batch_rows", self.batch_rows, least=1)
        _positive("update_rows", self.update_rows, least=1)
        _positive("edges_per_row", self.edges_per_row, least=1)
        if not 0 < self.influence <= 1:
            raise ConfigError("TraceConfig.influence has an unfit value.", got=self.influence, wanted="in (0, 1]", do="Correct it.")


@runtime_checkable
class Engine(Protocol):
    """Direct effects of every source on rows."""

    name: str

    def add_effects(self, rows: Rows, block: Float[Tensor, "n columns"]) -> None:
        """Add to each row's columns the direct effect of every source on it; rows come sorted by place, the last first."""
        ...


@torch.no_grad()
def trace(
    model: Model,
    dictionaries: Dictionary | DictionarySet | str | Path,
    prompt: str | Sequence[int],
    *,
    target: Target | str | Sequence[Target] | None = None,
    config: TraceConfig | None = None,
    turns: Sequence[TurnSpan] = (),
    progress: Progress | None = None,
) -> Graph:
    """The attribution graph of a prompt: what feeds its targets, directly and through features.

    `dictionaries` are per-layer or cross-layer transcoders of the model's MLPs (with or without skip), or SAEs of its residual stream (MLPs are then
    errors as a whole, and the stream is written anew by features, error and bias of each SAE), or the path of such an artifact. `prompt` is a text
    (no token is put before it) or token ids. `target`: None for the likeliest next tokens, a text for one next token, or one or several of
    `Logits`, `LogitDifference`, `FeatureTarget`, `Along`, `Loss`. Direct effects are through residual stream, held attention and skips, not through
    other MLPs (Ameisen et al. 2025, eq. for A_{s→t}); features are expanded best first by influence on the targets. With the `turns` of a rendered
    conversation the graph's columns are turns (`by_columns`); turn-averaged SAEs of the stream need them.

    Raises `TokenOutOfRange` (empty, too long), `TargetInvalid`, `ShapeMismatch` (a dictionary for another model, sites or layers),
    `ModelUnsupported`, `ActivationsNotFinite`, and `GraphUnbalanced` when inputs do not sum to the pre-activations.
    """
    settings = config or TraceConfig()
    targets = targets_of(target)
    given, names = opened(model, dictionaries)
    members = members_of(model, given, missing=settings.missing, turns=bool(turns))
    tokens = tokens_of(model, prompt)
    report = Throttled(progress)
    report("forward", 0, 1, unit="prompt")
    replacement = Replacement(model, members, tokens, logits_at=positions_of(targets, len(tokens)), read=sites_of(targets), turns=turns)
    sources = Sources(replacement)
    engine = engine_for(replacement, sources, name=settings.engine)
    report("forward", 1, 1, unit="prompt")
    traced = Tracing(replacement, sources, engine, settings=settings)
    traced.begin(*rows_of(replacement, targets))
    traced.expand(report)
    graph = traced.graph(prompt if isinstance(prompt, str) else model.tokenizer.text(tokens.tolist()), dictionaries=names)
    graph = by_columns(graph, turn_columns(turns, len(tokens))) if turns else graph
    _refuse_unbalanced(graph, _tolerance(settings, model))
    return graph


def engine_for(replacement: Replacement, sources: Sources, *, name: EngineName) -> Engine:
    """The engine of that name; `auto` is the sweep where it knows the family, else autograd. `ConfigError` for a sweep that it does not know."""
    if name == "autograd":
        return AutogradEngine(replacement, sources)
    sweep = SweepEngine.of(replacement, sources)
    if sweep is None and name == "sweep":
        what = f"the sweep does not know the attention of {replacement.model.family}."
        raise ConfigError(what, got=name, wanted="auto or autograd", do='Use engine="autograd".')
    return sweep or AutogradEngine(replacement, sources)


class Tracing:
    """A graph being made."""

    def __init__(self, replacement: Replacement, sources: Sources, engine: Engine, *, settings: TraceConfig) -> None:
        self.replacement, self.sources, self.engine, self.settings = replacement, sources, engine, settings
        self.collected = Collected(len(sources.columns))
        self.node: list[int] = []
        """By row collected, its column; −1 − i for the target i."""
        self._scratch = Scratch()
        self.rows: list[Rows] = []
        self.names: list[Named] = []

    def begin(self, rows: Rows, names: list[Named]) -> None:
        """The rows of the targets."""
        self.names = names
        for _ in self._add(rows, [-1 - i for i in range(len(rows))], run_all=map):
            pass

    def expand(self, report: Throttled) -> None:
        """Rows of features, best first by influence, until there are enough."""
        wanted = min(len(self.replacement.features), self.settings.max_rows)
        with self._workers(wanted) as run_all:
            self._expand(wanted, report, run_all=run_all)
        report("trace", 1, 1, unit="features")

    def _expand(self, wanted: int, report: Throttled, *, run_all: RunAll) -> None:
        n, settings = len(self.replacement.features), self.settings
        is_open = np.ones(n, dtype=np.bool_)
        together = None if self.replacement.together is None else self.replacement.together.cpu().numpy()
        done = 0
        while done < wanted:
            influence = self._influence()[:n]
            if settings.influence < 1 and influence[~is_open].sum() >= settings.influence * influence.sum():
                break
            influence[~is_open] = -1
            chosen = np.argsort(-influence, kind="stable")[: min(settings.update_rows, wanted - done)]
            chosen = chosen[influence[chosen] > 0]
            if together is not None:
                chosen = np.flatnonzero(np.isin(together, together[chosen]) & is_open)
            if not len(chosen):
                break
            nodes = torch.from_numpy(np.sort(chosen)).to(self.replacement.model.device)
            for some in self._add(feature_rows(self.replacement, nodes), nodes.tolist(), run_all=run_all):
                done += some
                report("trace", done, wanted, unit="features")
            is_open[chosen] = False

    def graph(self, prompt: str, *, dictionaries: tuple[str, ...]) -> Graph:
        """What was collected, as a graph."""
        replacement, columns, n = self.replacement, self.sources.columns, len(self.sources.columns)
        model, tokens = replacement.model, replacement.frozen.tokens.tolist()
        node = np.array(self.node, dtype=np.int64)
        node = np.where(node < 0, n - 1 - node, node)
        order = np.argsort(node, kind="stable")
        edges, dropped = self.collected.into_order(order)
        rows = joined(self.rows)
        return Graph(
            prompt=prompt,
            tokens=tuple(tokens),
            pieces=tuple(model.tokenizer.decode_pieces(tokens)),
            model=model.ref,
            model_fingerprint=model.fingerprint,
            quantised=model.quantised,
            n_layers=model.n_layers,
            dictionaries=dictionaries,
            nodes=_nodes(columns, self.names, n_layers=model.n_layers),
            rows=node[order].astype(np.int32),
            edges=edges,
            dropped=dropped[:, 0],
            dropped_abs=dropped[:, 1],
            pre=rows.pre.float().cpu().numpy()[order],
            target_weight=np.array([name.probability for name in self.names], dtype=np.float32),
            target_labels=tuple(name.label for name in self.names),
            config={**to_dict(self.settings), "engine": self.engine.name},
        )

    def _add(self, rows: Rows, nodes: list[int], *, run_all: RunAll) -> Iterator[int]:
        """Trace rows in batches of near positions, each sorted by place; gives the number of each batch's when it is done."""
        size = self.settings.batch_rows
        by_position = torch.argsort(rows.position, stable=True)
        batches = [by_position[first : first + size] for first in range(0, len(rows), size)]
        batches = [batch[torch.argsort(rows.place[batch], descending=True, stable=True)] for batch in batches]
        ready: dict[int, Entries] = {}

        def traced(place: int) -> tuple[int, Entries]:
            batch, like = rows.take(batches[place]), self.replacement.embedding
            room = self._scratch.take("block", len(batch), len(self.sources.columns), like=like)
            return place, entries_of(self.effects(batch, room=room), most=self.settings.edges_per_row, n_features=len(self.replacement.features))

        for place, entries in run_all(traced, reversed(range(len(batches)))):  # the longest first, so that no core waits at the end
            ready[place] = entries
            yield len(batches[place])
        for place, batch in enumerate(batches):  # in their order, so that a graph is the same every time
            self.collected.add(ready.pop(place))
            self.rows.append(rows.take(batch))
            self.node += [nodes[i] for i in batch.tolist()]

    def _workers(self, n_rows: int) -> AbstractContextManager[RunAll]:
        """A thread for each core where several batches are small and the sweep makes them; one after the other elsewhere."""
        replacement = self.replacement
        bytes_of_batch = 4 * self.settings.batch_rows * (len(self.sources.columns) + 4 * replacement.n_tokens * replacement.model.d_model)
        alone = n_rows <= self.settings.batch_rows or self.engine.name != "sweep" or bytes_of_batch > _AT_ONCE_BYTES
        return nullcontext(map) if alone else core_workers(replacement.model.device)

    def effects(self, rows: Rows, *, room: Tensor | None = None) -> Float[Tensor, "n columns"]:
        """Every effect on rows that are sorted by place, own biases included; written over `room` if given."""
        columns = self.sources.columns
        block = self.replacement.embedding.new_empty(len(rows), len(columns)) if room is None else room
        block.zero_()
        self.engine.add_effects(rows, block)
        reads = torch.tensor([columns.read[layer] for layer in rows.layer.tolist()], device=block.device)
        block[torch.arange(len(rows), device=block.device), reads] += rows.constant.to(block.dtype)
        return block

    def _influence(self) -> npt.NDArray[np.float64]:
        node = np.array(self.node, dtype=np.int64)
        place = torch.cat([rows.place for rows in self.rows]).cpu().numpy()
        of_target = node < 0
        place[of_target] = 2 * self.replacement.n_layers + 1
        start = np.zeros(len(node))
        start[of_target] = [self.names[-1 - i].probability for i in node[of_target]]
        return self.collected.influence(node, place, start=start)


def _nodes(columns: Columns, names: Sequence[Named], *, n_layers: int) -> Nodes:
    n = len(names)
    return Nodes(
        kind=np.concatenate([columns.kind, np.full(n, TARGET, dtype=np.int8)]),
        layer=np.concatenate([columns.layer, np.full(n, n_layers, dtype=np.int16)]),
        position=np.concatenate([columns.position, np.array([name.position for name in names], dtype=np.int32)]),
        feature=np.concatenate([columns.feature, np.array([name.token for name in names], dtype=np.int32)]),
        activation=np.concatenate([columns.activation, np.array([name.probability for name in names], dtype=np.float32)]),
    )


def tokens_of(model: Model, prompt: str | Sequence[int]) -> Int[Tensor, "pos"]:
    ids = model.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        raise TokenOutOfRange("the prompt has no tokens.", got="an empty prompt", wanted="at least one token", do="Give a text that is not empty.")
    return torch.tensor(ids, dtype=torch.int64, device=model.device)


def opened(model: Model, dictionaries: Dictionary | DictionarySet | str | Path) -> tuple[Dictionary | DictionarySet, tuple[str, ...]]:
    """The dictionaries and their ids; of an artifact that it was made with this model."""
    if isinstance(dictionaries, str | Path):
        manifest = read_manifest(Path(dictionaries))
        made_with = manifest.inputs.get("model")
        if made_with is not None and made_with != model.fingerprint:
            do = "Load the model that it was trained on, in the same number type."
            raise ShapeMismatch("the dictionary is for another model.", got=made_with, wanted=f"{model.fingerprint}, {model.ref}", do=do)
        return load_any(dictionaries), (manifest.id,)
    members = dictionaries.members if isinstance(dictionaries, DictionarySet) else (dictionaries,)
    facts = [(str(member.reads), member.d_dict, _sample(member)) for member in members]
    return dictionaries, (f"memory:{fingerprint(facts)}",)


def _sample(member: Dictionary) -> list[float]:
    weights = member.W_enc.flatten() if isinstance(member, Transcoder | SAE) else torch.zeros(1)
    return weights[:: max(1, len(weights) // 64)].tolist()


def _tolerance(settings: TraceConfig, model: Model) -> float:
    if settings.tolerance is not None:
        return settings.tolerance
    return 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1


def _refuse_unbalanced(graph: Graph, limit: float) -> None:
    off = graph.balances()
    bad = int((~(off <= limit)).sum())
    if bad:
        what = f"the inputs of {bad:,} of {len(off):,} traced rows do not add up."
        got, do = f"off by up to {float(off.max()):.2g} of the largest input", "Load the model in float32; if it remains, report the family."
        raise GraphUnbalanced(what, got=got, wanted=f"at most {limit:g}", do=do)


def _positive(name: str, value: int | None, *, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"TraceConfig.{name} has an unfit value.", got=value, wanted=f"{least} or more", do="Correct it.")
