"""SAEDashboard's `batch-0.json`, …: what its Neuronpedia runner writes, a folder a dictionary, 128 features a file.

It has no place for labels. Values are written in full (its own are rounded to 3 decimals), `qualifying_token_index` is the peak within the tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from microtome.artifacts import Draft
from microtome.features.exchange.batch_files import batch_files, features_in, write_batches
from microtome.features.exchange.files import Json, need, numbers, read_json, taken
from microtome.features.exchange.format import EXCHANGES, Bundle, layer_of
from microtome.features.exchange.parts import read_bars, read_logits, read_strip, shared_json
from microtome.features.exchange.record import Example, FeatureRecord, Interval, Source
from microtome.progress import Throttled

NAME = "saedashboard"
CALLED = "batch"
_EMPTY = (
    *("neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "decoder_weights_dist", "vector"),
    *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
    *("correlated_features_indices", "correlated_features_l1", "correlated_features_pearson"),
)


@final
class SAEDashboard:
    """See the top of this file."""

    def detect(self, path: Path) -> bool:
        if path.is_file():
            return path.suffix == ".json" and {"model_id", "layer", "sae_set", "features"} <= set(read_json(path))
        first = next(iter(batch_files(path, CALLED)), None)
        return first is not None and self.detect(first)

    def read(self, path: Path) -> Bundle:
        files: dict[str, list[Path]] = {}
        sources: dict[str, Source] = {}
        for file in batch_files(path, CALLED):
            if str(file.parent) not in files:
                sources[str(file.parent)] = _source(read_json(file), where=str(file))
            files.setdefault(str(file.parent), []).append(file)
        of = {source.id: files[folder] for folder, source in sources.items()}
        return Bundle(
            format=NAME,
            path=str(path),
            sources=tuple(sources.values()),
            numbers=lambda source: [record.number for record in _records(of[source.id], source, None)],
            records=lambda source, wanted: _records(of[source.id], source, wanted),
        )

    def write(self, bundle: Bundle, draft: Draft, *, tell: Throttled) -> None:
        for source in bundle.sources:
            layer_of(source, format_name="SAEDashboard")
        write_batches(bundle, draft, called=CALLED, content=_batch, tell=tell)


def _batch(source: Source, records: Iterator[FeatureRecord]) -> Json:
    layer = layer_of(source, format_name="SAEDashboard")
    batch = {"model_id": source.model, "layer": layer, "sae_set": source.set_name, "sae_id_suffix": None}
    return batch | dict(source.extra.get(NAME, {})) | {"features": [feature_json(record, source) for record in records]}


def feature_json(record: FeatureRecord, source: Source) -> Json:
    """One feature of a batch."""
    found: Json = {
        "feature_index": record.number,
        **{name: [] for name in _EMPTY},
        "frac_nonzero": record.density or 0.0,
        "n_prompts_total": source.n_prompts,
        "n_tokens_in_prompt": source.prompt_tokens,
        "dataset": source.dataset,
        **shared_json(record),
        "activations": [_activation(example, top=record.max) for example in record.examples],
    }
    return found | dict(record.extra.get(NAME, {}))


def _activation(example: Example, *, top: float | None) -> Json:
    """Of the strongest: -1, the feature's maximum, -1."""
    interval = example.interval
    bounds: Json = {"bin_min": -1, "bin_max": top if top is not None else max(example.activations), "bin_contains": -1}
    if interval is not None:
        bounds = {"bin_min": interval.low, "bin_max": interval.high, "bin_contains": interval.share}
    found = bounds | {"tokens": example.pieces, "values": list(example.activations), "qualifying_token_index": example.peak}
    return found | dict(example.extra.get(NAME, {}))


def _source(batch: Json, *, where: str) -> Source:
    layer, name = need(batch, "layer", int, where=where), need(batch, "sae_set", str, where=where)
    suffix = batch.get("sae_id_suffix")
    first: Json = next(iter(need(batch, "features", list, where=where)), {})
    return Source(
        id=f"{layer}-{name}" + (f"__{suffix}" if suffix else ""),
        model=need(batch, "model_id", str, where=where),
        set_name=name,
        layer=layer,
        dataset=str(first.get("dataset", "")),
        n_prompts=int(first.get("n_prompts_total", 0)),
        prompt_tokens=int(first.get("n_tokens_in_prompt", 0)),
        extra={NAME: {"sae_id_suffix": suffix}} if suffix else {},
    )


def _records(files: Sequence[Path], source: Source, wanted: Sequence[int] | None) -> Iterator[FeatureRecord]:
    return (_record(found, source, where=where) for found, where in features_in(files, number="feature_index", wanted=wanted))


def _record(found: Json, source: Source, *, where: str) -> FeatureRecord:
    shown = need(found, "activations", list, where=where)
    tops = [each["bin_max"] for each in shown if each.get("bin_contains") == -1 and isinstance(each.get("bin_max"), int | float)]
    largest = max((value for each in shown for value in numbers(each, "values", where=where)), default=None)
    top = float(tops[0]) if tops else largest
    bare = FeatureRecord(
        source=source.id,
        number=int(found["feature_index"]),
        density=found.get("frac_nonzero"),
        max=top,
        activations=read_bars(found, "freq", where=where),
        logits=read_bars(found, "logits", where=where),
        top_logits=read_logits(found, "pos", where=where),
        bottom_logits=read_logits(found, "neg", where=where),
        examples=tuple(_example(each, top=top, where=where) for each in shown),
    )
    extra = taken(found, feature_json(bare, source))
    return replace(bare, extra={NAME: extra} if extra else {})


def _example(found: Any, *, top: float | None, where: str) -> Example:
    tokens, values = read_strip(found, values="values", where=where)
    share, peak = found.get("bin_contains"), found.get("qualifying_token_index")
    interval = None if share in (None, -1) else Interval(low=found.get("bin_min"), high=found.get("bin_max"), share=share)
    bare = Example(tokens=tokens, activations=values, peak=peak if isinstance(peak, int) else -1, interval=interval)
    extra = taken(found, _activation(bare, top=top))
    return replace(bare, extra={NAME: extra} if extra else {})


EXCHANGES.register(NAME)(SAEDashboard())
