"""The doors: an index out, foreign files in, and foreign files into another format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microtome.artifacts import Artifact, Draft, existing
from microtome.config import canonical_json, fingerprint
from microtome.errors import ConfigError, FormatUnknown
from microtome.features.exchange.format import EXCHANGES, Bundle, count_of, writer_of
from microtome.features.exchange.gather import Wanted, bundle_of
from microtome.features.store import Store
from microtome.progress import Progress, Throttled


def open_bundle(path: str | Path, *, format_name: str | None = None) -> Bundle:
    """The features in a folder or file of another tool, or in an export of ours; its format is found by the files.

    Raises `FormatUnknown`, `NotRegistered` and, when a part that is out of order is read, `BundleInvalid`.
    """
    place = Path(path).expanduser()
    for name in [format_name] if format_name else EXCHANGES:
        if place.exists() and EXCHANGES.get(name).detect(place):
            return EXCHANGES.get(name).read(place)
    got = (
        "nothing"
        if not place.exists()
        else "a file"
        if place.is_file()
        else ", ".join(sorted(each.name for each in place.iterdir())[:6]) or "no files"
    )
    do = "Give the folder that holds features/, latents/, batch-0.json or upload-0.json, or one JSON file."
    wanted = f"the files of {format_name or 'one of ' + ', '.join(EXCHANGES)}"
    raise FormatUnknown(f"{place} holds no features that microtome reads.", got=got, wanted=wanted, do=do)


def is_bundle(path: str | Path) -> bool:
    """Whether `open_bundle` knows the files."""
    return any(EXCHANGES.get(name).detect(Path(path)) for name in EXCHANGES) if Path(path).exists() else False


def export_index(store: Store, out: str | Path, *, format_name: str, wanted: Wanted | None = None, progress: Progress | None = None) -> Artifact:
    """Write features of an index as another tool does, into an artifact of the kind `export`: whole or absent, resumed if it was interrupted.

    Raises `FormatCannotHold`, `NotRegistered`, `ArtifactConflict`, `DiskFull`, `FeatureNotFound`.
    """
    wanted = wanted or Wanted()
    labels = canonical_json([(each.feature, each.text) for each in store.catalogue.user_labels(store.id)])
    config = {"to": format_name, **wanted.__dict__, "features": None if wanted.features is None else sorted(set(wanted.features))}
    config["user_labels"] = fingerprint(labels)
    return _write(bundle_of(store, wanted), out, format_name=format_name, config=config, inputs={"index": store.id}, progress=progress)


def convert(bundle: Bundle, out: str | Path, *, format_name: str, progress: Progress | None = None) -> Artifact:
    """Write a bundle in another format; raises as `export_index`."""
    config = {"to": format_name, "from": bundle.format, "path": bundle.path}
    return _write(bundle, out, format_name=format_name, config=config, inputs={}, progress=progress)


def _write(
    bundle: Bundle, out: str | Path, *, format_name: str, config: dict[str, Any], inputs: dict[str, str], progress: Progress | None
) -> Artifact:
    writer = writer_of(format_name)
    finished = existing(out, "export", config=config, inputs=inputs)
    if finished is not None:
        return finished
    n_features = count_of(bundle)
    if n_features == 0:
        raise ConfigError("there are no features to export.", got="0 features", wanted="at least 1", do="Loosen --features or --filter.")
    with Draft.open(out, "export", config=config, inputs=inputs) as draft:
        writer.write(bundle, draft, tell=Throttled(progress))
        sources: Sequence[str] = [source.id for source in bundle.sources]
        return draft.finish(summary={"format": format_name, "features": n_features, "sources": sources})
