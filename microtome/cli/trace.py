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
from microtome.cli.read import TURN_FEATURE, Read
from microtome.cli.session import Common, Session
from microtome.cli.trials import tried_views
from microtome.errors import ArtifactDamaged, CommandInvalid

if TYPE_CHECKING:
    from microtome.circuits import Graph, Target, Tried
    from microtome.models import Model


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Aim:
    """What is explained."""

    target: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A next token, its space too (" Paris"), or a feature (L20.f17, L20.f17@4; with --turn-dict T1.f17); several times for several. The likeliest
    tokens unless given."""
    against: str | None = None
    """Explain by how much the target's logit is above this token's."""
    position: int = -1
    """Where the token is predicted; negative ones count from the prompt's end."""
    contrast: str | None = None
    """Another prompt: its graph is aligned by tokens and subtracted."""
    chat: Annotated[bool, Parameter(negative=())] = False
    """The prompt is a user's turn of a chat; the graph is of the reply's first token."""
    turns: Annotated[bool, Parameter(negative=())] = False
    """The prompt is a file with a conversation, a JSON list of {"role", "content"}; the columns of the graph are its turns."""
    turn_dict: str | None = None
    """Turn-averaged dictionary whose features can be targets: T1.f17 is its feature 17 in the second turn."""

    def read(self, session: Session, model: "Model", prompt: str) -> Read:
        return Read.of(session, model, prompt, chat=self.chat, turns=self.turns, turn_dict=self.turn_dict)

    def targets(self, read: Read) -> "list[Target] | None":
        from microtome.circuits import FeatureTarget, LogitDifference, Logits

        if self.against is not None:
            if len(self.target) != 1:
                do = 'Give both: --target " Paris" --against " London".'
                raise CommandInvalid("a difference is of two tokens.", got=f"{len(self.target)} targets", wanted="one", do=do)
            return [LogitDifference(token=self.target[0], against=self.against, position=self.position)]
        features = [_feature(text) for text in self.target]
        of_turns = [text for text in self.target if self.turn_dict is not None and TURN_FEATURE.fullmatch(text)]
        made: list[Target] = [read.turn_feature(text) for text in of_turns]
        made += [
            FeatureTarget(layer=found[0], feature=found[1], position=found[2] if found[2] is not None else self.position)
            for found in features
            if found
        ]
        tokens = tuple(text for text, found in zip(self.target, features, strict=True) if not found and text not in of_turns)
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
    """Edges stored of each, half of them the strongest from features, and the rest as a sum; all unless given. For long prompts."""
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
    test: Annotated[bool, Parameter(negative=())] = False
    """Set the strongest features and random ones to 0 and double them in the model: predicted against measured, kept with the graph."""
    swap: Annotated[bool, Parameter(negative=())] = False
    """Swap tokens for others: does the graph miss any that matter? Kept with the graph."""


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

    Does it hold in the model; does it miss tokens that matter:

        microtome trace "The capital of France is" --test --swap

    A conversation, by turns (its tokens' graph is kept as NAME-tokens):

        microtome trace talk.json --turns --name talk

    For Neuronpedia and circuit-tracer's page, as graph files in a folder:

        microtome trace "The capital of France is" --out graph_data

    Parameters
    ----------
    prompt
        The text; with --turns a file.
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    dict
        Transcoders of its MLPs, or SAEs of its residual stream: name in the workspace, or path; not needed when there is only one dictionary.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.models import load

    with Session(common) as session:
        weights = session.find("dictionary", dict)
        index = session.find("index", output.index) if output.index is not None else None
        session.workspace.place("graph", output.name or "unnamed")  # a name that cannot be one is refused before the work
        with session.step("load model"):
            loaded = load(model, device=device, selfcheck=False, progress=session.progress)
        _run(session, loaded, weights, prompt=prompt, aim=aim, tracing=tracing, output=output, index=index)


def _run(session: Session, model: "Model", weights: Path, *, prompt: str, aim: Aim, tracing: Tracing, output: Output, index: Path | None) -> None:
    """Trace, keep, test, compare, write and print."""
    from microtome.circuits import contrast, slug_of, view

    read = aim.read(session, model, prompt)
    whole = _traced(session, model, weights, read=read, aim=aim, tracing=tracing)
    slug, graph = output.name or slug_of(whole), read.shown(whole)
    tokens = slug if whole is graph else f"{slug}-tokens"
    graph.save(path := session.workspace.place("graph", slug), replace=True)
    if whole is not graph:
        whole.save(session.workspace.place("graph", tokens), replace=True)
    made = _tried(session, model, weights, graph=whole, name=tokens, output=output)
    labels = labels_of(session, graph, index)
    node, edge = tracing.node_threshold, tracing.edge_threshold
    tested = made.trial if made is not None and whole is graph else None
    shown = view(graph, labels=labels, slug=slug, node_threshold=node, edge_threshold=edge, tested=tested)
    found = paths_of(graph, labels, count=tracing.paths)
    result: Mapping[str, Any] = {"path": str(path), "graph": shown, "paths": found}
    views = graph_views(shown, found)
    if made is not None:
        result = {**result, "tried": made}
        views += tried_views(made.trial, made.missing)
    if aim.contrast is not None:
        second = aim.read(session, model, aim.contrast)
        other = second.shown(_traced(session, model, weights, read=second, aim=aim, tracing=tracing))
        labels = {**labels, **labels_of(session, other, index)}
        compared = contrast(graph, other, labels=labels, node_threshold=node, edge_threshold=edge)
        result = {**result, "contrast": compared}
        views += contrast_views(compared)
    written = {} if output.out is None else {"written": str(_write(session, shown, output.out))}
    session.result({**result, **written}, *views, f"next: microtome show {slug}" + ("" if labels else _unlabelled(weights)))


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


def _traced(session: Session, model: "Model", weights: Path, *, read: Read, aim: Aim, tracing: Tracing) -> "Graph":
    from microtome.circuits import TraceConfig, trace
    from microtome.dictionaries import SAE, load_any

    given = load_any(weights) if read.turns else None
    turns = read.turns if isinstance(given, SAE) and given.pooling == "turn" else ()
    config = TraceConfig(max_rows=tracing.rows, edges_per_row=tracing.edges, missing="error" if tracing.missing else "refuse")
    with session.step("trace") as step:
        graph = trace(model, weights, read.prompt, target=aim.targets(read), config=config, turns=turns, progress=session.progress)
        step.count(len(graph.rows), "rows")
    return graph


def _tried(session: Session, model: "Model", weights: Path, *, graph: "Graph", name: str, output: Output) -> "Tried | None":
    """What the model says to the graph, kept beside it; None where nothing is asked."""
    if not output.test and not output.swap:
        return None
    from microtome.circuits import keep_tried, missing_edges, trial
    from microtome.dictionaries import DictionarySet, load_any

    made: Tried | None = None
    if output.test:
        loaded = load_any(weights)
        dictionaries = loaded if isinstance(loaded, DictionarySet) else DictionarySet((loaded,))
        with session.step("test"):
            made = keep_tried(session.workspace, name, trial=trial(model, dictionaries, graph=graph, progress=session.progress))
    if output.swap:
        with session.step("swap"):
            made = keep_tried(session.workspace, name, missing=missing_edges(model, graph, progress=session.progress))
    return made


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
