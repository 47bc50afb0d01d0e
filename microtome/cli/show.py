"""`microtome show`: look at a workspace, an artifact or a feature in the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from microtome.artifacts import FOLDERS, KINDS, MANIFEST, Artifact, Manifest, read_manifest
from microtome.cli.cards import card_view, plain, search_view, titled
from microtome.cli.dictionary import dictionary_card, dictionary_views
from microtome.cli.index import overview_table
from microtome.cli.links import links_views
from microtome.cli.session import Common, Session
from microtome.cli.sweep import sweep_views
from microtome.cli.words import size
from microtome.config import canonical_json
from microtome.errors import ArtifactDamaged, ArtifactMissing


def show(
    what: str | None = None,
    feature: int | None = None,
    *,
    text: str | None = None,
    site: str | None = None,
    links: bool = False,
    silenced: bool = False,
    limit: Annotated[int, Parameter(validator=Number(gte=0))] = 12,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Show a workspace, an artifact, an index or one feature.

    Examples:

    What the workspace holds, then an index at a glance:

        microtome show

        microtome show wiki

    The card of feature 1234; the features that a text makes fire (runs the model):

        microtome show wiki 1234

        microtome show wiki --text "The ship sailed to Antarctica."

    In an index of a set: feature 17 of the dictionary that reads L3.mlp_in, with
    the features that it feeds and that feed it (TWERA); --silenced runs the model
    to find those that it keeps from firing:

        microtome show demo-plt 17 --site L3.mlp_in --links

        microtome show demo-plt 17 --site L3.mlp_in --silenced

    The card of a dictionary, in any format that is read: what it is, what it
    was trained on, how good it is beside its controls, and its known limits:

        microtome show microtome-workspace/dictionaries/wiki

        microtome show downloads/a-saelens-folder

    What an artifact was made from, with every file checked against its hash:

        microtome show microtome-workspace/shards/wiki

    Parameters
    ----------
    what
        Name of an index or a dictionary, or the path of any artifact or of a dictionary's files; the whole workspace unless given.
    feature
        Number of a feature of the index, or with --site of the dictionary that reads there.
    text
        Rank the features of the index by how they respond to this text.
    site
        The site whose dictionary the feature is of, in an index of several.
    links
        Also what the feature feeds and what feeds it.
    silenced
        Also the features that it keeps from firing, measured with the model on a sample.
    limit
        How many examples or features to show.
    """
    with Session(common) as session:
        if what is None and feature is None and text is None:
            return _workspace(session)
        path = Path(what) if what is not None else None
        if path is not None and (path / MANIFEST).is_file() and feature is None and text is None:
            return _artifact(session, path)
        if what is not None and feature is None and text is None and what not in session.workspace.names("index"):
            if what in session.workspace.names("dictionary"):
                return _dictionary(session, session.workspace.place("dictionary", what))
            if Path(what).exists():
                return _dictionary(session, Path(what))
        index = session.find("index", what)
        if feature is not None and text is None:
            return _feature(session, index, feature, site=site, limit=limit, links=links or silenced, silenced=silenced)
        return _index(session, index, text=text, limit=limit)


def _feature(session: Session, path: Path, number: int, *, site: str | None, limit: int, links: bool, silenced: bool) -> None:
    from microtome.features import FeatureIndex
    from microtome.models import load

    index = FeatureIndex.open(path, session.workspace)
    feature = number if site is None else index.feature(site, number)
    card = index.card(feature)
    if not links:
        return session.result({"card": card}, card_view(card, examples=limit))
    model = None
    if silenced:
        with session.step("load model"):
            model = load(index.overview().sources["model"], progress=session.progress)
    with session.step("links"):
        found = {"downstream": index.downstream(feature, limit=limit, model=model), "upstream": index.upstream(feature, limit=limit)}
    views = [view for each in found.values() for view in links_views(each)]
    return session.result({"card": card, **found}, card_view(card, examples=limit), *views)


def _index(session: Session, path: Path, *, text: str | None, limit: int) -> None:
    from microtome.features import FeatureIndex
    from microtome.models import load

    index = FeatureIndex.open(path, session.workspace)
    if text is not None:
        with session.step("load model"):
            model = load(index.overview().sources["model"], progress=session.progress)
        with session.step("search"):
            search = index.search(model, text, limit=limit)
        session.result({"search": search}, search_view(search))
    else:
        overview = index.overview()
        session.result({"overview": overview}, overview_table(overview))


def _artifact(session: Session, path: Path) -> None:
    manifest = read_manifest(path)
    Artifact.open(path, manifest.kind, formats=(manifest.format,)).verify()
    if manifest.kind in {"dictionary", "sweep"}:
        (_dictionary if manifest.kind == "dictionary" else _sweep)(session, path)
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


def _sweep(session: Session, path: Path) -> None:
    from microtome.training import open_sweep

    made = open_sweep(path)
    session.result({"path": str(path), "sweep": made}, *sweep_views(made))


def _workspace(session: Session) -> None:
    workspace = session.workspace
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
