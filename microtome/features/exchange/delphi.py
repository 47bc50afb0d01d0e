"""delphi's activation cache: every activation over a corpus, which its explainers and scorers start from.

    latents/HOOKPOINT/0_511.safetensors …   locations [n, 3] (context, position in it, latent - first of the file), activations f16, tokens i64
    latents/HOOKPOINT/config.json           its CacheConfig
    vocabulary.safetensors                  the bytes of every token, so that the texts can be read here without a tokenizer (delphi asks for none)

delphi cuts its text into contexts of one length, without padding; so the corpus is laid out one document after another, and a context can hold the
end of one and the beginning of the next, as in its own caches. Activations are those of the index, where each document was read by itself. The
last context is filled up with token 0, on which nothing fires; `n_tokens` says how many are real. Locations are u16 where they fit, else u32; rows
are in the order of the tokens. The tokens are repeated in each file, as its readers want them.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np

from microtome.artifacts import Draft
from microtome.dictionaries.formats import module_hook, module_name
from microtome.errors import FormatCannotHold, HookUnknown
from microtome.features.arrays import Array, create_arrays, flush_arrays, open_arrays
from microtome.features.exchange.files import dumps, invalid, read_json
from microtome.features.exchange.format import EXCHANGES, Bundle, Cache, Entries
from microtome.features.exchange.record import Example, FeatureRecord, Source
from microtome.features.text import Vocabulary
from microtome.models import Site
from microtome.progress import Throttled

NAME = "delphi"
VOCABULARY = "vocabulary.safetensors"
_MOST_ENTRIES = 1 << 23
"""Activations in one file, at most: what is held in memory, about 250 MB."""
_SPLITS = 5
"""Files a hookpoint, at least: its own default."""
_SHOWN, _BEFORE, _AFTER = 20, 24, 12
"""Examples a feature, and the tokens around each."""


@final
class Delphi:
    """See the top of this file."""

    def detect(self, path: Path) -> bool:
        return path.is_dir() and next(_hookpoints(path), None) is not None

    def read(self, path: Path) -> Bundle:
        folders = {source.id: folder for folder in sorted(_hookpoints(path)) for source in [_source(folder, _root(path))]}
        sources = tuple(_source(folder, _root(path)) for folder in folders.values())
        cache = _FileCache(folders, root=_root(path))
        return Bundle(format=NAME, path=str(path), sources=sources, numbers=cache.numbers, records=cache.records, cache=cache)

    def write(self, bundle: Bundle, draft: Draft, *, tell: Throttled) -> None:
        cache = bundle.cache
        if cache is None:
            what, do = f"a delphi cache holds every activation over a corpus; {bundle.format} files hold examples alone.", "Export an index."
            raise FormatCannotHold(what, got=bundle.format, wanted="an index, or another delphi cache", do=do)
        plan = [(source, split) for source in bundle.sources for split in _splits(cache.counts(source))]
        for done, (source, (first, last)) in enumerate(plan, 1):
            name = f"latents/{hookpoint(source)}/{first}_{last}.safetensors"
            if not draft.has(name):
                with draft.place(name) as temporary:
                    _write_split(temporary, cache, cache.entries(source, first=first, last=last), first=first, wanted=bundle.numbers(source))
            tell("write activations", done, len(plan), unit="files")
        for source in bundle.sources:
            splits = sum(each == source for each, _ in plan)
            draft.write(f"latents/{hookpoint(source)}/config.json", dumps(_config(source, cache, splits=splits)))
        with draft.place(VOCABULARY) as temporary:
            Vocabulary.of(cache.token_bytes, n_vocab=cache.n_vocab).write(temporary)


def hookpoint(source: Source) -> str:
    """The module as delphi names it: of a transcoder, that whose input is read."""
    site = Site.parse(source.site) if source.site else None
    if site is not None and site.kind in ("mlp_in", "mlp_out"):
        return f"layers.{site.layer}.mlp"
    try:
        return source.id if site is None else module_name(site)
    except HookUnknown:
        return source.id


def _splits(counts: Array) -> list[tuple[int, int]]:
    """Runs of features, even as delphi cuts them, or more where one would hold too much."""
    n_splits = min(len(counts), max(_SPLITS, math.ceil(int(counts.sum()) / _MOST_ENTRIES)))
    bounds = np.linspace(0, len(counts), n_splits + 1).astype(np.int64).tolist()
    return [(low, high - 1) for low, high in pairwise(bounds)]


def _write_split(path: Path, cache: Cache, found: Entries, *, first: int, wanted: Sequence[int]) -> None:
    context, n = cache.context, len(cache.tokens)
    values = found.values.astype(np.float16)
    if not np.isfinite(values).all():
        do = "Export to another format, or scale the dictionary's activations down."
        raise FormatCannotHold("delphi keeps activations as float16.", got=float(found.values.max()), wanted="at most 65504", do=do)
    if not isinstance(wanted, range):
        chosen = np.isin(found.numbers, np.asarray(wanted))
        found = Entries(positions=found.positions[chosen], numbers=found.numbers[chosen], values=found.values[chosen])
        values = values[chosen]
    n_contexts = math.ceil(n / context)
    dtype = np.uint16 if n_contexts <= 1 << 16 and (len(found.numbers) == 0 or found.numbers.max() - first < 1 << 16) else np.uint32
    shapes = {"locations": (dtype, (len(values), 3)), "activations": (np.float16, (len(values),)), "tokens": (np.int64, (n_contexts, context))}
    made = create_arrays(path, shapes)
    made["locations"][:, 0], made["locations"][:, 1] = found.positions // context, found.positions % context
    made["locations"][:, 2], made["activations"][...] = found.numbers - first, values
    made["tokens"].reshape(-1)[:n] = cache.tokens
    flush_arrays(made)


def _config(source: Source, cache: Cache, *, splits: int) -> dict[str, Any]:
    """delphi's CacheConfig and the model's name, and what it has no field for."""
    return {
        "dataset_repo": source.dataset,
        "dataset_split": "",
        "dataset_name": "",
        "dataset_column": "text",
        "batch_size": 32,
        "cache_ctx_len": cache.context,
        "n_tokens": len(cache.tokens),
        "n_splits": splits,
        "model_name": source.model,
        "site": source.site,
        "set_name": source.set_name,
    }


def _root(path: Path) -> Path:
    return next((each for each in (path, path.parent, path.parent.parent) if (each / VOCABULARY).is_file()), path)


def _hookpoints(path: Path) -> Iterator[Path]:
    for folder in (path, *path.glob("*"), *path.glob("latents/*")):
        if (folder / "config.json").is_file() and _edges(folder):
            yield folder


def _edges(folder: Path) -> list[tuple[int, int, Path]]:
    """First and last latent of each file."""
    found: list[tuple[int, int, Path]] = []
    for file in folder.glob("*_*.safetensors"):
        low, _, high = file.stem.partition("_")
        if low.isdecimal() and high.isdecimal():
            found.append((int(low), int(high), file))
    return sorted(found)


def _source(folder: Path, root: Path) -> Source:
    config = read_json(folder / "config.json")
    site, layer = str(config.get("site") or ""), None
    try:
        found = Site.parse(site) if site else module_hook(folder.name)
        site, layer = str(found), found.layer
    except HookUnknown:
        site = ""
    name = str(config.get("set_name") or root.name)
    return Source(
        id=folder.name,
        model=str(config.get("model_name", "")),
        set_name=name,
        site=site,
        layer=layer,
        n_features=_edges(folder)[-1][1] + 1,
        dataset=str(config.get("dataset_repo", "")),
        n_prompts=math.ceil(int(config.get("n_tokens") or 0) / max(1, int(config.get("cache_ctx_len") or 256))),
        prompt_tokens=int(config.get("cache_ctx_len") or 256),
    )


@final
class _FileCache:
    """The files of a cache, memory-mapped."""

    def __init__(self, folders: dict[str, Path], *, root: Path) -> None:
        self._folders, self._root = folders, root

    @cached_property
    def _shape(self) -> tuple[Array, int, int]:
        """All tokens, tokens a context, and how many are real."""
        folder = next(iter(self._folders.values()))
        config = read_json(folder / "config.json")
        arrays = _opened(_edges(folder)[0][2])
        if "tokens" not in arrays:
            raise invalid(str(folder), got="no tokens", wanted="a cache that was saved with its tokens")
        tokens = np.asarray(arrays["tokens"])
        real = int(config.get("n_tokens") or tokens.size)
        return tokens.reshape(-1)[: min(real, tokens.size)], tokens.shape[1], tokens.size

    @property
    def tokens(self) -> Array:
        return self._shape[0]

    @property
    def context(self) -> int:
        return self._shape[1]

    @cached_property
    def _vocabulary(self) -> Vocabulary | None:
        return Vocabulary.read(self._root / VOCABULARY) if (self._root / VOCABULARY).is_file() else None

    @property
    def n_vocab(self) -> int:
        return len(self._vocabulary) if self._vocabulary is not None else 0

    def token_bytes(self, token: int) -> bytes:
        """Without a vocabulary beside the cache, its number."""
        return f"<{token}>".encode() if self._vocabulary is None else self._vocabulary.bytes(token)

    def counts(self, source: Source) -> Array:
        counts = np.zeros(source.n_features or 0, dtype=np.int64)
        for low, high, file in _edges(self._folders[source.id]):
            counts[low : high + 1] = np.bincount(np.asarray(_opened(file)["locations"][:, 2]), minlength=high - low + 1)
        return counts

    def numbers(self, source: Source) -> Sequence[int]:
        return range(source.n_features or 0)

    def entries(self, source: Source, *, first: int, last: int) -> Entries:
        parts = [_entries(low, file, context=self.context) for low, high, file in _edges(self._folders[source.id]) if low <= last and high >= first]
        positions, numbers, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("positions", "numbers", "values"))
        inside = np.flatnonzero((numbers >= first) & (numbers <= last))
        order = inside[np.argsort(positions[inside], kind="stable")]
        return Entries(positions=positions[order], numbers=numbers[order], values=values[order])

    def records(self, source: Source, wanted: Sequence[int] | None) -> Iterator[FeatureRecord]:
        """A file at a time; the strongest activation of each context is an example."""
        asked = np.array(sorted(self.numbers(source) if wanted is None else wanted), dtype=np.int64)
        for low, high, _ in _edges(self._folders[source.id]):
            mine = asked[(asked >= low) & (asked <= high)]
            if len(mine):
                found = self.entries(source, first=low, last=high)
                order = np.argsort(found.numbers, kind="stable")
                bounds = np.searchsorted(found.numbers[order], [mine, mine + 1])
                for number, start, stop in zip(mine.tolist(), *bounds.tolist(), strict=True):
                    at = order[start:stop]
                    yield self._record(source, number, positions=found.positions[at], values=found.values[at])

    def _record(self, source: Source, number: int, *, positions: Array, values: Array) -> FeatureRecord:
        strongest = np.argsort(-values, kind="stable")
        firsts = np.sort(np.unique(positions[strongest] // self.context, return_index=True)[1])[:_SHOWN]
        examples = tuple(self._example(int(positions[at]), positions, values) for at in strongest[firsts])
        density, top = len(values) / max(1, len(self.tokens)), float(values.max()) if len(values) else 0.0
        return FeatureRecord(source=source.id, number=number, density=density, max=top, examples=examples)

    def _example(self, position: int, positions: Array, values: Array) -> Example:
        floor = position // self.context * self.context
        start, stop = max(floor, position - _BEFORE), min(floor + self.context, len(self.tokens), position + _AFTER + 1)
        shown = np.zeros(stop - start, dtype=np.float32)
        low, high = np.searchsorted(positions, [start, stop])
        shown[positions[low:high] - start] = values[low:high]
        tokens = tuple(self.token_bytes(token) for token in self.tokens[start:stop].tolist())
        origin = f"context {position // self.context}, token {position % self.context}"
        return Example(tokens=tokens, activations=tuple(shown.tolist()), peak=position - start, origin=origin)


def _opened(file: Path) -> dict[str, Array]:
    arrays = open_arrays(file)
    if "locations" not in arrays or "activations" not in arrays or arrays["locations"].shape != (len(arrays["activations"]), 3):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise invalid(str(file), got=shapes, wanted="locations [n, 3] and activations [n]")
    return arrays


def _entries(low: int, file: Path, *, context: int) -> Entries:
    arrays = _opened(file)
    locations = np.asarray(arrays["locations"]).astype(np.int64)
    positions, numbers = locations[:, 0] * context + locations[:, 1], locations[:, 2] + low
    return Entries(positions=positions, numbers=numbers, values=np.asarray(arrays["activations"]).astype(np.float32))


EXCHANGES.register(NAME)(Delphi())
