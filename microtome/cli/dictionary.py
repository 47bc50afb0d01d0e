"""The card of a dictionary: what it is, what it was trained on, how good it is beside its controls, and its known limits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from microtome.artifacts import MANIFEST, Manifest, Workspace, read_manifest
from microtome.cli.cards import plain, titled
from microtome.cli.words import count, size
from microtome.errors import ArtifactMissing

if TYPE_CHECKING:
    from microtome.dictionaries import Dictionary, DictionarySet

QUALITY, SEARCH = "quality.json", "training.json"


@dataclass(frozen=True, kw_only=True)
class DictionaryCard:
    """All that the card says."""

    name: str
    what: Mapping[str, str]
    trained_on: Mapping[str, str]
    """Empty for a dictionary whose files do not say."""
    quality: Mapping[str, Any]
    """`microtome.training.Quality` as JSON; empty when it was not measured here."""
    limits: tuple[str, ...]


def dictionary_card(path: Path | str, workspace: Workspace) -> DictionaryCard:
    """The card of an artifact, or of a dictionary in another library's format; raises what `microtome.load` raises."""
    from microtome.dictionaries import load_any
    from microtome.dictionaries.formats import read_foreign

    folder = Path(path)
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        loaded, quality = load_any(folder), _json(folder / QUALITY)
        trained_on, limits = _trained_on(manifest, _json(folder / SEARCH), workspace=workspace)
        return DictionaryCard(name=folder.name, what=what_of(loaded), trained_on=trained_on, quality=quality, limits=(*limits, *_measured(quality)))
    read = read_foreign(path)
    about = {str(key): str(value) for key, value in read.about.items()}
    limits = ("not measured here: its quality on this machine's texts is not known", "what its files do not say about its training is not known")
    return DictionaryCard(name=folder.name, what=what_of(read.dictionary), trained_on=about, quality={}, limits=limits)


def what_of(loaded: "Dictionary | DictionarySet") -> dict[str, str]:
    """Kind, sites, sizes."""
    from microtome.dictionaries import DictionarySet, nonlinearity_to_json

    members = loaded.members if isinstance(loaded, DictionarySet) else (loaded,)
    first = members[0]
    kind = f"set of {len(members)} ({loaded.kind})" if isinstance(loaded, DictionarySet) else type(loaded).__name__
    weights = [tensor for member in members for tensor in getattr(member, "weights", dict)().values()]
    nonlinearity = getattr(first, "nonlinearity", None)
    kept = getattr(first, "k", None)
    choice = f"k {kept}" if nonlinearity is None and kept else "none" if nonlinearity is None else _spelled(nonlinearity_to_json(nonlinearity))
    reads, writes = ([str(site) for member in members for site in sites(member)] for sites in (lambda each: each.inputs, lambda each: each.writes))
    return {
        "kind": kind,
        "reads": _few(reads),
        "writes": _few(list(dict.fromkeys(writes))),
        "a row is": first.pooling,
        "features": count(loaded.d_dict) + (f", {first.d_dict:,} a layer" if len(members) > 1 else ""),
        "nonlinearity": choice,
        "width": f"{first.d_in:,} in, {first.d_out:,} out",
        "numbers": f"{count(sum(tensor.numel() for tensor in weights))}, {size(sum(tensor.numel() * tensor.element_size() for tensor in weights))}",
    }


def _trained_on(manifest: Manifest, search: Mapping[str, Any], *, workspace: Workspace) -> tuple[dict[str, str], tuple[str, ...]]:
    """Text, tokens, rate; and what the corpus' policy left out."""
    config, inputs = manifest.config, manifest.inputs
    told = {name: str(config[name]) for name in ("tokens", "batch_size", "seed") if name in config}
    if "lr" in search:
        tried = ", ".join(f"{trial['lr']:g}" for trial in search.get("trials", ()))
        told["learning rate"] = f"{search['lr']:g}" + (f", of {tried}" if tried else "")
    losses = config.get("losses") or ()
    if losses:
        told["losses"] = ", ".join(_spelled(loss) if isinstance(loss, Mapping) else str(loss) for loss in losses)
    corpus = _corpus(inputs.get("corpus"), workspace)
    if corpus is None:
        return {**told, **{role: id for role, id in inputs.items() if role in {"corpus", "shards"}}}, ("what its text was is not in this workspace",)
    asked = corpus.config
    told |= {"text": f"{asked['source']}, {corpus.summary.get('tokens', asked.get('max_tokens'))} tokens in contexts of {asked['context_length']}"}
    left = [f"the first {asked['skip_first']} of each context"] if asked.get("skip_first") else []
    left += [f"{name} tokens" for name in ("special", "template") if asked.get(name) == "drop"]
    ratio = asked.get("sink_norm_ratio")
    left += [f"attention sinks (norm above {ratio:g} times the median)"] if ratio else []
    return told, (("never saw " + ", ".join(left),) if left else ())


def _measured(quality: Mapping[str, Any]) -> tuple[str, ...]:
    """Limits that the quality report tells."""
    if not quality:
        return ("its quality was not measured",)
    dead, found = quality["dead_share"], list[str]()
    if "(" in quality["model"]:
        found.append(f"the model is quantised: {quality['model']}")
    found.append(f"measured on {quality['tokens']:,} tokens of {quality['documents']:,} {quality['split']} documents, of this text alone")
    if dead["value"]:
        found.append(f"{dead['value']:.1%} of its features were active on none of them")
    if quality.get("ce_undefined"):
        found.append(f"cross-entropy recovered is not defined: {quality['ce_undefined']}")
    elif not quality.get("ce_recovered"):
        found.append("cross-entropy recovered was not measured")
    return tuple(found)


def dictionary_views(card: DictionaryCard) -> list[Table | str]:
    """The card for a terminal."""
    table = titled(f"dictionary {card.name}")
    table.add_column("part")
    table.add_column("value")
    for part, values in (("what", card.what), ("trained on", card.trained_on)):
        for name, value in values.items():
            table.add_row(part, Text(plain(f"{name}: {value[:200]}")))
    for limit in card.limits:
        table.add_row("limit", Text(plain(limit)))
    return [table, *_quality(card.quality)]


def _quality(quality: Mapping[str, Any]) -> list[Table | str]:
    if not quality:
        return []
    from microtome.cli.train import quality_table
    from microtome.config import from_dict
    from microtome.training import Quality

    return [quality_table(from_dict(Quality, quality), None)]


def _corpus(id: str | None, workspace: Workspace) -> Manifest | None:
    if id is None:
        return None
    try:
        return read_manifest(workspace.by_id("corpus", id))
    except ArtifactMissing:
        return None


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_bytes()) if file.is_file() else {}


def _spelled(value: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {each}" for name, each in value.items() if name != "name" and each is not None)
    return f"{value.get('name', '')} {rest}".strip()


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} … {names[-1]} ({len(names)})"
