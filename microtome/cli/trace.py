"""`microtome trace`: why the model said that, as an attribution graph."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from microtome.artifacts import read_manifest
from microtome.cli.graphs import contrast_views, graph_views, paths_of
from microtome.cli.session import Common, Session
from microtome.errors import ArtifactDamaged, CommandInvalid

if TYPE_CHECKING:
    from microtome.circuits import Graph, Target
    from microtome.models import Model


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Aim:
    """What is explained."""

    target: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A next token, its space too (" Paris"), or a feature (L20.f17, L20.f17@4); several times for several. The likeliest tokens unless given."""
    against: str | None = None
    """Explain by how much the target's logit is above this token's."""
    position: int = -1
    """Where the token is predicted; negative ones count from the prompt's end."""
    contrast: str | None = None
    """Another prompt: its graph is aligned by tokens and subtracted."""
    chat: Annotated[bool, Parameter(negative=())] = False
    """The prompt is a user's turn of a chat; the graph is of the reply's first token."""

    def targets(self) -> "list[Target] | None":
        from microtome.circuits import FeatureTarget, LogitDifference, Logits

        if self.against is not None:
            if len(self.target) != 1:
                do = 'Give both: --target " Paris" --against " London".'
                raise CommandInvalid("a difference is of two tokens.", got=f"{len(self.target)} targets", wanted="one", do=do)
            return [LogitDifference(token=self.target[0], against=self.against, position=self.position)]
        features = [_feature(text) for text in self.target]
        made: list[Target] = [
            FeatureTarget(layer=found[0], feature=found[1], position=found[2] if found[2] is not None else self.position)
            for found in features
            if found
        ]
        tokens = tuple(text for text, found in zip(self.target, features, strict=True) if not found)
        if tokens or not made:
            made.append(Logits(position=self.position, tokens=tokens))
        return made


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Tracing:
    """How far, and what is shown."""

    rows: Annotated[int, Parameter(validator=Number(gte=0))] = 2000
    """Features whose own inputs are traced, at most."""
    edges: Annotated[int | None, Parameter(validator=Number(gte=1))] = None
    """Strongest edges stored of each, the rest as a sum; all unless given. For long prompts."""
    node_threshold: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 0.8
    """Share of influence whose nodes are shown."""
    edge_threshold: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 0.98
    """Share of influence whose edges are shown."""
    paths: Annotated[int, Parameter(validator=Number(gte=0))] = 5
    """Strongest paths listed."""
    missing: Annotated[bool, Parameter(negative=())] = False
    """Let layers without a transcoder be errors as a whole."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """What is made of the graph."""

    index: str | None = None
    """Index with the features' labels; found by the dictionary unless given."""
    name: str | None = None
    """Name of the graph; made of the prompt unless given."""
    out: Path | None = None
    """Folder for a graph file in circuit-tracer's format, listed in its graph-metadata.json."""


def trace(
    prompt: str,
    *,
    model: str = "demo",
    dict: str | None = None,
    aim: Aim = Aim(),
    tracing: Tracing = Tracing(),
    output: Output = Output(),
    device: str = "auto",
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Trace why a model said something: an attribution graph from the prompt's tokens through features to the prediction.

    Prints the strongest paths, the top features of each layer, and how much is
    left unexplained. Makes graphs/NAME in the workspace; `microtome show NAME`
    prints it again.

    Examples:

        microtome trace "The capital of France is" --model demo --dict demo-plt

        microtome trace "The capital of France is" --target " Paris" --against " London"

    A feature's own causes; another prompt aligned and subtracted:

        microtome trace "The capital of France is" --target L20.f17

        microtome trace "The capital of France is" --contrast "The capital of Japan is"

    For Neuronpedia and circuit-tracer's page, as graph files in a folder:

        microtome trace "The capital of France is" --out graph_data

    Parameters
    ----------
    prompt
        The text.
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    dict
        Transcoders of its MLPs: name in the workspace, or path; not needed when there is only one dictionary.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.circuits import contrast, slug_of, view
    from microtome.models import load

    with Session(common) as session:
        weights = session.find("dictionary", dict)
        index = session.find("index", output.index) if output.index is not None else None
        session.workspace.place("graph", output.name or "unnamed")  # a name that cannot be one is refused before the work
        with session.step("load model"):
            loaded = load(model, device=device, selfcheck=False, progress=session.progress)
        graph = _traced(session, loaded, weights, prompt=prompt, aim=aim, tracing=tracing)
        slug = output.name or slug_of(graph)
        graph.save(path := session.workspace.place("graph", slug), replace=True)
        labels = labels_of(session, graph, index)
        node, edge = tracing.node_threshold, tracing.edge_threshold
        shown = view(graph, labels=labels, slug=slug, node_threshold=node, edge_threshold=edge)
        found = paths_of(graph, labels, count=tracing.paths)
        result: Mapping[str, Any] = {"path": str(path), "graph": shown, "paths": found}
        views = graph_views(shown, found)
        if aim.contrast is not None:
            other = _traced(session, loaded, weights, prompt=aim.contrast, aim=aim, tracing=tracing)
            labelled = {**labels, **labels_of(session, other, index)}
            compared = contrast(graph, other, labels=labelled, node_threshold=node, edge_threshold=edge)
            result = {**result, "contrast": compared}
            views += contrast_views(compared)
        if output.out is not None:
            result = {**result, "written": str(_write(session, shown, output.out))}
        session.result(result, *views, f"next: microtome show {slug}" + ("" if labels else _unlabelled(weights)))


def labels_of(session: Session, graph: "Graph", index: Path | None = None) -> dict[tuple[int, int], str]:
    """Labels from this index, or from the first in the workspace that is of the graph's dictionary; none where there is none."""
    from microtome.circuits import labels_from
    from microtome.features import FeatureIndex

    path = index or _index_of(session, graph)
    return {} if path is None else labels_from(FeatureIndex.open(path, session.workspace), graph)


def _index_of(session: Session, graph: "Graph") -> Path | None:
    for name in session.workspace.names("index"):
        path = session.workspace.place("index", name)
        try:
            if read_manifest(path).inputs.get("dictionary") in graph.dictionaries:
                return path
        except ArtifactDamaged:
            continue
    return None


def _traced(session: Session, model: "Model", weights: Path, *, prompt: str, aim: Aim, tracing: Tracing) -> "Graph":
    from microtome.circuits import TraceConfig, trace
    from microtome.directions import asked
    from microtome.models import render

    tokens = list(render(model, asked(prompt), add_generation_prompt=True).tokens) if aim.chat else prompt
    config = TraceConfig(max_rows=tracing.rows, edges_per_row=tracing.edges, missing="error" if tracing.missing else "refuse")
    with session.step("trace") as step:
        graph = trace(model, weights, tokens, target=aim.targets(), config=config, progress=session.progress)
        step.count(len(graph.rows), "rows")
    return graph


def _write(session: Session, shown: Any, folder: Path) -> Path:
    from microtome.circuits.export import file_of, write_graph_file

    exported = file_of(shown, scan=shown.model)
    path = write_graph_file(exported.file, folder)
    left = ", ".join(f"{count} {kind}" for kind, count in exported.left_out.items())
    session.note(f"wrote {path}" + (f"; the format has no place for {left}" if left else ""))
    return path


def _feature(text: str) -> tuple[int, int, int | None] | None:
    """`L20.f17` or `L20.f17@4`; anything else is a token."""
    found = re.fullmatch(r"L(\d{1,4})\.f(\d{1,9})(?:@(\d{1,9}))?", text)
    return (int(found[1]), int(found[2]), None if found[3] is None else int(found[3])) if found else None


def _unlabelled(weights: Path) -> str:
    return f" · for labels: microtome index {weights.name}"
