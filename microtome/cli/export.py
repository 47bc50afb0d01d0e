"""`microtome export`: features as other tools read them, or as pages for any web host."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from microtome.artifacts import Artifact
from microtome.cli.session import Common, Session
from microtome.cli.words import count, size
from microtome.errors import CommandInvalid

if TYPE_CHECKING:
    from microtome.features import FeatureIndex

_STATIC = "static"
_LOOK = {_STATIC: "look: python -m http.server --directory {out}"}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Part:
    """How much of an index is exported, and under which names."""

    features: str | None = None
    """Numbers of features and ranges of them; all unless given."""
    filter: str | None = None
    """Features of the table that pass this filter."""
    model_id: str | None = None
    """What the files call the model; its own name unless given."""
    set_name: str | None = None
    """What the files call the dictionary; the index' name unless given."""
    top: Annotated[int, Parameter(validator=Number(gte=0))] = 20
    """Most of the strongest examples of each feature."""
    per_slice: Annotated[int, Parameter(validator=Number(gte=0))] = 5
    """Most examples of each slice of its firings."""
    documents: Annotated[int, Parameter(validator=Number(gte=0))] = 200
    """How many documents a static copy holds."""
    relations: bool = True
    """Write links, relations and measurements of each feature into a static copy: most of the time it takes."""
    kept: Annotated[bool, Parameter(negative=())] = False
    """Write your notes, verdicts and lists into a static copy; labels of your own are always in it."""


def export(
    what: str | None = None,
    *,
    to: str,
    out: Path | None = None,
    part: Part = Part(),
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Write the features of an index in another tool's format, or as pages that any web host serves.

    Can be interrupted: the same command resumes. microtome show OUT lists what is in it.

    Examples:

    For Neuronpedia: its bulk files, or what its upload takes:

        microtome export wiki --to neuronpedia --out wiki-neuronpedia

        microtome export wiki --to neuronpedia-upload --model-id smollm2-135m --set-name wiki-2k

    SAEDashboard's batches; delphi's cache of all activations; the feature files
    that circuit-tracer's pages read by byte range:

        microtome export wiki --to saedashboard --out wiki-dashboards

        microtome export wiki --to delphi --out wiki-cache

        microtome export demo-plt --to circuit-tracer --out demo-plt-features

    Some features only:

        microtome export wiki --to neuronpedia --features 17,100-199

        microtome export wiki --to saedashboard --filter "density > 0.1% and f1 > 0.5"

    Pages without Python behind them, and the documents of most examples:

        microtome export wiki --to static --out site --documents 500

        python -m http.server --directory site

    Files of another tool into another format:

        microtome export downloads/gemma-2-2b --to circuit-tracer --out features

    Parameters
    ----------
    what
        Name or path of an index (not needed when there is only one), or a folder or file in a format that is read.
    to
        neuronpedia, neuronpedia-upload, saedashboard, delphi, circuit-tracer or static.
    out
        Folder to write; exports/NAME-TO in the workspace unless given.
    """
    with Session(common) as session:
        _check(part, to=to)
        if what is not None and what not in session.workspace.names("index") and _is_foreign(what):
            _convert(session, what, to=to, out=out)
            return
        from microtome.features import FeatureIndex
        from microtome.features.exchange import Wanted, export_index, writer_of

        if to != _STATIC:
            writer_of(to, also=[_STATIC])
        place = session.find("index", what)
        out = out or session.workspace.place("export", f"{place.name}-{to}")
        index = FeatureIndex.open(place, session.workspace)
        chosen = _chosen(index, part.features, filter=part.filter)
        with session.step("export", output=out) as step:
            if to == _STATIC:
                from microtome.web import write_copy

                made = write_copy(
                    index, out, features=chosen, documents=part.documents, relations=part.relations, kept=part.kept, progress=session.progress
                )
            else:
                wanted = Wanted(features=chosen, top=part.top, per_slice=part.per_slice, model=part.model_id, set_name=part.set_name)
                made = export_index(index.store, out, format_name=to, wanted=wanted, progress=session.progress)
            step.count(int(made.manifest.summary["features"]), "features")
        _report(session, made)


def _check(part: Part, *, to: str) -> None:
    """Refuse what only a static copy can have."""
    if to != _STATIC and (part.kept or not part.relations):
        name = "--kept" if part.kept else "--no-relations"
        do = "Leave it out, or export to static."
        raise CommandInvalid(f"{name} is of a static copy.", got=f"{name} with --to {to}", wanted=f"--to {_STATIC}", do=do)


def _is_foreign(what: str) -> bool:
    from microtome.features.exchange import is_bundle

    return Path(what).exists() and is_bundle(what)


def _convert(session: Session, what: str, *, to: str, out: Path | None) -> None:
    from microtome.features.exchange import convert, open_bundle

    if to == _STATIC:
        do = "Export an index to static; these files become another format."
        raise CommandInvalid("a static copy is of an index.", got=what, wanted="an index of the workspace", do=do)
    target = out or session.workspace.place("export", f"{Path(what).resolve().name}-{to}")
    bundle = open_bundle(what)
    with session.step("export", output=target) as step:
        made = convert(bundle, target, format_name=to, progress=session.progress)
        step.count(int(made.manifest.summary["features"]), "features")
    _report(session, made)


def _report(session: Session, made: Artifact) -> None:
    summary, files = made.manifest.summary, made.manifest.files
    written = sum(int(facts["bytes"]) for facts in files.values())
    line = f"{made.path}: {count(summary['features'])} features as {summary['format']}, {count(len(files))} files, {size(written)}"
    then = _LOOK.get(summary["format"], "look: microtome show {out}").format(out=made.path)
    session.result({"export": {"path": str(made.path), "id": made.id, "files": len(files), "bytes": written, **summary}}, line, then)


def _chosen(index: "FeatureIndex", features: str | None, *, filter: str | None) -> Sequence[int] | None:
    """The ids that both options leave, None for all."""
    named = None if features is None else set(_numbers(features))
    if filter is None:
        return None if named is None else sorted(named)
    rows = index.table(filter=filter, limit=index.n_features).rows
    return [row.feature for row in rows if named is None or row.feature in named]


def _numbers(text: str) -> list[int]:
    """`17,100-199`."""
    found: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(high) < int(low)):
            do = "Write numbers and ranges between commas: --features 17,100-199."
            raise CommandInvalid(f'--features holds "{part}".', got=text, wanted="numbers and ranges", do=do)
        found += range(int(low), int(high or low) + 1)
    return found
