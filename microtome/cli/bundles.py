"""Features in another tool's files, as the terminal shows them."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from microtome.artifacts import MANIFEST, read_manifest
from microtome.cli.cards import plain, quoted, sparkline
from microtome.cli.listing import Listing
from microtome.cli.session import Session
from microtome.cli.words import count

if TYPE_CHECKING:
    from microtome.features.exchange import Bundle, Example, FeatureRecord


def foreign(session: Session, what: str) -> Path | None:
    """The path of features in another tool's files: one that is given, or of an export of the workspace by its name; None for anything else."""
    named = what in session.workspace.names("export") and what not in session.workspace.names("index")
    path = session.workspace.place("export", what) if named else Path(what)
    if not path.exists() or ((path / MANIFEST).is_file() and read_manifest(path).kind != "export"):
        return None
    from microtome.features.exchange import is_bundle

    return path if is_bundle(path) else None


def show_bundle(session: Session, path: Path, feature: int | None, *, site: str | None, limit: int) -> None:
    """What is in the files, or one feature of them."""
    from microtome.features.exchange import open_bundle

    bundle = open_bundle(path)
    if feature is not None:
        record = bundle.feature(feature, source=site)
        session.result({"feature": _json(record)}, record_view(record, limit=limit))
        return
    rows = [record for source in bundle.sources for record in islice(bundle.records(source, None), limit)]
    sources = [{**source.__dict__, "extra": {}, "features": len(bundle.numbers(source))} for source in bundle.sources]
    session.result(
        {"path": str(path), "format": bundle.format, "sources": sources, "features": [_json(record) for record in rows]},
        _sources_view(bundle, path),
        _records_view(rows),
        f"one of them: microtome show {path} {rows[0].number if rows else 0}" + (f" --site {rows[0].source}" if len(bundle.sources) > 1 else ""),
    )


def _json(record: "FeatureRecord") -> dict[str, object]:
    """Text in place of bytes."""
    examples = [
        {"pieces": each.pieces, "activations": each.activations, "peak": each.peak, "interval": each.interval, "origin": each.origin}
        for each in record.examples
    ]
    return {**record.__dict__, "label": record.label, "examples": examples}


def _sources_view(bundle: "Bundle", path: Path) -> Listing:
    rows = [(source.id, source.model, source.site, count(len(bundle.numbers(source))), source.dataset) for source in bundle.sources]
    headings = ("source", "model", "site", "features", "dataset")
    return Listing(title=f"{bundle.format} files at {path}", headings=headings, rows=rows, texts=("model", "dataset"), names=("source", "site"))


def _records_view(rows: "list[FeatureRecord]") -> Listing:
    """A line each; a column that says nothing of any of them is left out."""
    columns: dict[str, list[str]] = {
        "source": [record.source for record in rows] if len({record.source for record in rows}) > 1 else [],
        "feature": [str(record.number) for record in rows],
        "density": ["" if record.density is None else f"{record.density:.3%}" for record in rows],
        "raises": [quoted(record.top_logits[0].text) if record.top_logits else "" for record in rows],
        "label": [record.label for record in rows],
    }
    shown = {heading: cells for heading, cells in columns.items() if any(cells)}
    examples = [_line(record.examples[0], before=4, after=2) if record.examples else Text("") for record in rows]
    return Listing(
        title="the first features",
        headings=(*shown, "strongest example"),
        rows=list(zip(*shown.values(), examples, strict=True)),
        texts=("label", "strongest example"),
        names=("source", "raises"),
    )


def record_view(record: "FeatureRecord", *, limit: int) -> Group:
    """One feature: label, figures, histogram, examples by interval, logits."""
    figures = [f"density {record.density:.3%}"] if record.density is not None else []
    figures += [f"max {record.max:.3g}"] if record.max is not None else []
    lines: list[RenderableType] = [Text(f"feature {record.number} of {plain(record.source)}: {plain(record.label) or '(no label)'}", style="bold")]
    lines.append(Text(" · ".join(figures)))
    if record.activations is not None:
        lines.append(Text(f"activations {sparkline([int(height) for height in record.activations.heights])}"))
    for said in record.explanations:
        made = " ".join(filter(None, (said.method, said.model, "" if said.score is None else f"F1 {said.score:.2f}")))
        lines.append(Text(f'"{plain(said.text)}" {f"({plain(made)})" if made else ""}'))
    lines.append(Text(f"\n{count(len(record.examples))} examples", style="bold"))
    lines += [_line(example, before=14, after=7) for example in record.examples[:limit]]
    for verb, entries in (("raises", record.top_logits), ("lowers", record.bottom_logits)):
        lines.append(Text(f"{verb} " + (", ".join(quoted(entry.text) for entry in entries[:8]) or "(not in these files)")))
    return Group(*lines)


def _line(example: "Example", *, before: int, after: int) -> Text:
    """An example on one line, the firing tokens marked."""
    values = example.activations
    peak = example.peak if 0 <= example.peak < len(values) else values.index(max(values))
    line = Text(f"{values[peak]:8.2f}  ", no_wrap=True, overflow="ellipsis")
    pieces = example.pieces
    for i in range(max(0, peak - before), min(len(pieces), peak + after + 1)):
        style = "bold reverse" if i == peak else "underline" if values[i] > 0 else ""
        line.append(plain(pieces[i]), style=style)
    return line
