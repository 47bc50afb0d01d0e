"""`microtome show`: look at a workspace, an artifact or a feature in the terminal."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from microtome.artifacts import FOLDERS, KINDS, MANIFEST, Artifact, Manifest, Workspace, read_manifest
from microtome.cli.ask import Asked, find_features, run_prompts
from microtome.cli.bundles import foreign, show_bundle
from microtome.cli.cards import card_view, plain, titled
from microtome.cli.dictionary import dictionary_card, dictionary_views
from microtome.cli.graphs import graph_views, paths_of
from microtome.cli.index import overview_table
from microtome.cli.made import direction_views
from microtome.cli.relations import Related, relations
from microtome.cli.session import Common, Session
from microtome.cli.sweep import sweep_views
from microtome.cli.trials import tried_views
from microtome.cli.words import size
from microtome.config import canonical_json
from microtome.errors import ArtifactDamaged, ArtifactMissing, CommandInvalid


def show(
    what: str | None = None,
    feature: int | None = None,
    *,
    asked: Asked = Asked(),  # noqa: B008  frozen
    site: str | None = None,
    related: Related = Related(),  # noqa: B008  frozen
    limit: Annotated[int, Parameter(validator=Number(gte=0))] = 12,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Show a workspace, an artifact, an index or one feature.

    Examples:

    What the workspace holds; an index at a glance; the card of feature 1234:

        microtome show

        microtome show wiki

        microtome show wiki 1234

    What the feature does on prompts of your own (runs the model):

        microtome show wiki 1234 --test "The ship sailed." --test-file prompts.txt

    Features that fire on both texts and not on the third; on a token; that tell
    two files apart (`microtome odd` lists the strange ones):

        microtome show wiki --text "A ship." --text "A boat." --without "A car."

        microtome show wiki --token " ship"

        microtome show wiki --separate ships.txt others.txt

    In an index of a set: what feature 17 of L3.mlp_in feeds, what feeds it (TWERA)
    and what it keeps from firing (runs the model). What is like a feature, what
    stands around it, and what ablating and doubling it does (runs the model):

        microtome show demo-plt 17 --site L3.mlp_in --links --silenced

        microtome show wiki 1234 --alike --coactive --suspects --match wide

        microtome show wiki 1234 --around --loss --effects

    The card of a dictionary, in any format that is read; a feature in another
    tool's files; a graph of `microtome trace`; a direction; any artifact, every file checked:

        microtome show downloads/a-saelens-folder

        microtome show downloads/gemma-2-2b 1234 --site 12-gemmascope-res-16k

        microtome show the-capital-of-france-is-1b2f3c

        microtome show ocean

        microtome show microtome-workspace/shards/wiki

    Parameters
    ----------
    what
        Name of an index, a dictionary, a graph or a direction, or the path of any artifact, a
        workspace, a dictionary's files or files about features; the whole workspace unless given.
    feature
        Number of a feature of the index, or with --site of the dictionary that reads there.
    site
        The site whose dictionary the feature is of, in an index of several.
    limit
        How many examples or features to show.
    """
    with Session(common) as session:
        asked.check(feature)
        related.check(feature, asked=asked)
        _shown(session, what, feature, asked=asked, site=site, related=related, limit=limit)


def _shown(session: Session, what: str | None, feature: int | None, *, asked: Asked, site: str | None, related: Related, limit: int) -> None:
    whole = feature is None and not asked.features
    if what is None and whole:
        return _workspace(session, session.workspace)
    path = Path(what) if what is not None else None
    if what is not None and not asked.features and not asked.prompts and (files := foreign(session, what)) is not None:
        if related.given:
            do = "Leave it out, or ask an index of the workspace."
            raise CommandInvalid("files of another tool do not hold this.", got=", ".join(related.given), wanted="an index", do=do)
        return show_bundle(session, files, feature, site=site, limit=limit)
    if path is not None and (path / MANIFEST).is_file() and whole:
        return _artifact(session, path)
    if what is not None and whole and what not in session.workspace.names("index"):
        if (kind := next((kind for kind in ("dictionary", "graph", "direction") if what in session.workspace.names(kind)), None)) is not None:
            return _SHOWN[kind](session, session.workspace.place(kind, what))
        if Path(what).exists():
            return _workspace(session, Workspace(what)) if _is_workspace(Path(what)) else _dictionary(session, Path(what))
    index = session.find("index", what)
    if asked.features or asked.prompts:
        return _asked(session, index, asked, feature=feature, site=site, limit=limit)
    if feature is not None:
        return _feature(session, index, feature, site=site, limit=limit, asked=related)
    return _index(session, index)


def _asked(session: Session, path: Path, asked: Asked, *, feature: int | None, site: str | None, limit: int) -> None:
    from microtome.features import FeatureIndex

    index = FeatureIndex.open(path, session.workspace)
    if asked.prompts and feature is not None:
        return run_prompts(session, index, asked, feature=feature if site is None else index.feature(site, feature))
    return find_features(session, index, asked, limit=limit)


def _feature(session: Session, path: Path, number: int, *, site: str | None, limit: int, asked: Related) -> None:
    from microtome.features import FeatureIndex

    index = FeatureIndex.open(path, session.workspace)
    feature = number if site is None else index.feature(site, number)
    card = index.card(feature)
    found, views = relations(session, index, asked=asked, feature=feature, limit=limit)
    session.result({"card": card, **found}, card_view(card, examples=limit), *views)


def _index(session: Session, path: Path) -> None:
    from microtome.features import FeatureIndex

    overview = FeatureIndex.open(path, session.workspace).overview()
    session.result({"overview": overview}, overview_table(overview))


def _artifact(session: Session, path: Path) -> None:
    manifest = read_manifest(path)
    Artifact.open(path, manifest.kind, formats=(manifest.format,)).verify()
    if manifest.kind in _SHOWN:
        _SHOWN[manifest.kind](session, path)
        return
    table = titled(f"{manifest.kind} {path.name}, id {manifest.id}: all {len(manifest.files)} files match their hashes")
    table.add_column("part")
    table.add_column("value")
    parts = {"config": manifest.config, "inputs": manifest.inputs, "summary": manifest.summary, "packages": manifest.packages}
    for part, values in parts.items():
        for key, value in values.items():
            table.add_row(part, Text(plain(f"{key} = {canonical_json(value)[:200]}")))
    table.add_row("files", size(_bytes(manifest)))
    session.result({"path": str(path), "id": manifest.id, "manifest": manifest}, table)


def _dictionary(session: Session, path: Path) -> None:
    """Its card; of any kind, and of any format that is read."""
    card = dictionary_card(path, session.workspace)
    manifest = read_manifest(path) if (path / MANIFEST).is_file() else None
    session.result({"path": str(path), "dictionary": card, "manifest": manifest}, *dictionary_views(card))


def _graph(session: Session, path: Path) -> None:
    """As `microtome trace` printed it, at the thresholds of default."""
    from microtome.circuits import Graph, tried, view
    from microtome.cli.trace import labels_of

    graph = Graph.open(path)
    labels = labels_of(session, graph)
    here = path.name in session.workspace.names("graph") and session.workspace.place("graph", path.name).samefile(path)
    made = tried(session.workspace, path.name) if here else None
    shown = view(graph, labels=labels, slug=path.name, tested=None if made is None else made.trial)
    found = paths_of(graph, labels, count=5)
    more = [] if made is None else tried_views(made.trial, made.missing)
    session.result({"path": str(path), "graph": shown, "paths": found, "tried": made}, *graph_views(shown, found), *more)


def _direction(session: Session, path: Path) -> None:
    from microtome.directions import direction_card

    card = direction_card(path, workspace=session.workspace)
    session.result({"path": str(path), "direction": card, "manifest": read_manifest(path)}, *direction_views(card))


def _sweep(session: Session, path: Path) -> None:
    from microtome.training import open_sweep

    made = open_sweep(path)
    session.result({"path": str(path), "sweep": made}, *sweep_views(made))


_SHOWN: Mapping[str, Callable[[Session, Path], None]] = {"dictionary": _dictionary, "sweep": _sweep, "graph": _graph, "direction": _direction}
"""What has a view of its own, by kind."""


def _is_workspace(path: Path) -> bool:
    workspace = Workspace(path)
    return workspace.catalogue.is_file() or any(workspace.names(kind) for kind in KINDS)


def _workspace(session: Session, workspace: Workspace) -> None:
    table = titled(f"workspace {workspace.path}")
    for heading in ("kind", "name", "id", "size", "made from"):
        table.add_column(heading)
    rows: list[Mapping[str, object]] = []
    manifests: dict[tuple[str, str], Manifest] = {}
    damaged: list[Mapping[str, object]] = []
    for kind, name in ((each, name) for each in KINDS for name in workspace.names(each)):
        try:
            manifests[kind, name] = read_manifest(workspace.place(kind, name))
        except ArtifactDamaged as error:
            damaged.append({"kind": kind, "name": name, **error.to_json()})
            table.add_row(*(Text(plain(cell)) for cell in (kind, name, "damaged", "", f"{error.what} {error.do}")))
    names = {manifest.id: f"{FOLDERS[kind]}/{name}" for (kind, name), manifest in manifests.items()}
    for (kind, name), manifest in manifests.items():
        made_from = {role: names.get(id, id) for role, id in manifest.inputs.items()}
        row = {"kind": kind, "name": name, "id": manifest.id, "bytes": _bytes(manifest), "inputs": made_from, "summary": manifest.summary}
        rows.append(row)
        origins = ", ".join(f"{role} {origin}" for role, origin in made_from.items())
        table.add_row(*(Text(plain(cell)) for cell in (kind, name, manifest.id, size(_bytes(manifest)), origins)))
    if not rows and not damaged:
        do = "Make the first with `microtome harvest demo --corpus wiki --site L15.resid_post`, or all of them with `microtome demo`."
        raise ArtifactMissing(f"there are no artifacts in {workspace.path}.", got="an empty workspace", wanted="at least one artifact", do=do)
    session.result({"workspace": str(workspace.path), "artifacts": rows, "damaged": damaged}, table)


def _bytes(manifest: Manifest) -> int:
    return sum(int(facts["bytes"]) for facts in manifest.files.values())
