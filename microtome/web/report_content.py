"""What the report shows, gathered from the artifacts of a workspace."""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microtome.artifacts import Manifest, Workspace, read_manifest
from microtome.costs import Cost
from microtome.features import Card, FeatureIndex, Overview, TableRow
from microtome.progress import Progress, Throttled
from microtome.steering import DoseCurve, load_curve
from microtome.web.report_graph import TriedGraph, tried_graph

N_CANDIDATES = 16
"""How many features of each kind of rule, by F1, are looked at for the strongest rule labels."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Cards chosen by a rule that the report states."""

    title: str
    how: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that the report shows."""

    overview: Overview
    manifests: Mapping[str, Manifest]
    """By kind: `corpus`, `shards`, `dictionary`, `index`."""
    quality: Mapping[str, Any]
    """`microtome.training.Quality` as JSON; empty when it was not measured."""
    training: Mapping[str, Any]
    """`training.json` of the dictionary: the learning-rate search; empty when there is none."""
    steps: Sequence[Mapping[str, Any]]
    """The training log, a `StepRecord` a row; empty when there is none."""
    galleries: tuple[Gallery, ...]
    steering: DoseCurve | None
    """The curve of the index' name, where one was measured."""
    graph: TriedGraph | None
    """The graph of the index' name, where one was made with its dictionary and tried."""
    costs: tuple[Cost, ...]
    commands: tuple[str, ...]
    """What reproduces it."""


def gather(
    workspace: Workspace,
    *,
    index: str | None,
    costs: Sequence[Cost],
    commands: Sequence[str],
    seed: int,
    n_cards: int,
    progress: Progress | None = None,
) -> Content:
    """Collect what the report shows from the artifacts of the workspace."""
    path = workspace.find("index", index)
    features = FeatureIndex.open(path, workspace)
    overview = features.overview()
    places = {
        kind: workspace.by_id(kind, overview.sources[f"{kind}_id"]) for kind in ("corpus", "shards", "dictionary") if f"{kind}_id" in overview.sources
    }
    return Content(
        overview=overview,
        manifests={kind: read_manifest(place) for kind, place in {**places, "index": path}.items()},
        quality=_json(places["dictionary"] / "quality.json"),
        training=_json(places["dictionary"] / "training.json"),
        steps=_lines(places["dictionary"] / "steps.jsonl"),
        galleries=_galleries(features, overview, seed=seed, n_cards=n_cards, progress=Throttled(progress)),
        steering=load_curve(workspace.place("doses", path.name)) if path.name in workspace.names("doses") else None,
        graph=tried_graph(workspace, path.name, dictionary=overview.sources["dictionary_id"]),
        costs=tuple(costs),
        commands=tuple(commands),
    )


def _galleries(features: FeatureIndex, overview: Overview, *, seed: int, n_cards: int, progress: Throttled) -> tuple[Gallery, ...]:
    everything = overview.counts["features"]
    rows = features.table(sort="f1", descending=True, filter="density > 0", limit=everything).rows
    drawn = sorted(row.feature for row in random.Random(seed).sample(rows, min(n_cards // 2, len(rows))))
    best = _candidates(rows, but=frozenset(drawn))
    cards: dict[int, Card] = {}
    wanted = [*drawn, *best]
    for done, feature in enumerate(wanted):
        progress("report", done, len(wanted), unit="cards")
        cards[feature] = features.card(feature)
    progress("report", len(wanted), len(wanted), unit="cards")
    strong = strongest([cards[feature] for feature in best], n_cards - len(drawn))
    return (
        Gallery(
            title="Drawn at random",
            how=f"{len(drawn)} of the {len(rows):,} features that fire at all, drawn with seed {seed} and shown whatever they are.",
            cards=tuple(cards[feature] for feature in drawn),
        ),
        Gallery(
            title="The strongest rule labels",
            how="Picked: the features whose rule label has the highest F1 on test documents, at most four of each kind of rule and no weak ones. "
            "The easy ones, not typical ones.",
            cards=strong,
        ),
    )


def _candidates(rows: Sequence[TableRow], *, but: frozenset[int]) -> list[int]:
    """Of rows sorted by F1, the first ones of each kind of rule."""
    seen: Counter[str] = Counter()
    found: list[int] = []
    for row in rows:
        if row.feature not in but and seen[row.rule_kind] < N_CANDIDATES:
            seen[row.rule_kind] += 1
            found.append(row.feature)
    return found


def strongest(cards: Sequence[Card], n: int, *, each_kind: int = 4) -> tuple[Card, ...]:
    """The `n` cards whose rules hold best on test documents, where they were not picked; no weak ones, at most `each_kind` of one kind of rule."""
    picked: list[Card] = []
    kinds: Counter[str] = Counter()
    held = [(card, card.rule.f1_test) for card in cards if not card.rule.weak]
    for card, _ in sorted(((card, f1) for card, f1 in held if f1 is not None), key=lambda pair: (-pair[1], pair[0].feature)):
        if len(picked) < n and kinds[card.rule.kind] < each_kind:
            kinds[card.rule.kind] += 1
            picked.append(card)
    return tuple(picked)


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()] if file.is_file() else []
