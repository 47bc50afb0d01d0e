"""Features out and in: what is read back is what was written, text to the byte, and a killed export goes on."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from microtome.artifacts import DRAFT, Draft, existing
from microtome.errors import (
    ArtifactConflict,
    BundleInvalid,
    ConfigError,
    FeatureNotFound,
    FormatCannotHold,
    FormatUnknown,
    NotRegistered,
    SiteNotFound,
)
from microtome.features import FeatureIndex
from microtome.features.exchange import (
    EXCHANGES,
    Bars,
    Bundle,
    Example,
    Explanation,
    FeatureRecord,
    Interval,
    Source,
    TokenLogit,
    Wanted,
    bundle_of,
    convert,
    export_index,
    open_bundle,
    written_formats,
)
from tests.features.small_store import D_DICT

WRITTEN = ("circuit-tracer", "delphi", "neuronpedia", "neuronpedia-upload", "saedashboard")
DASHBOARDS = tuple(name for name in WRITTEN if name != "delphi")
SOURCE = Source(id="3-made", model="tiny", set_name="made", site="L3.resid_post", layer=3, n_features=300, dataset="texts", n_prompts=9)
PARROT = "🦜".encode()


def record(number: int) -> FeatureRecord:
    """A feature whose text has characters spread over tokens, escapes that mean themselves, markup and every awkward kind of white space."""
    tokens = (b"a ", PARROT[:1], PARROT[1:3], PARROT[3:], b"<b>\r\n", b"\\xe6 \\x", "日".encode()[:2], "日".encode()[2:] + b"\x00", b"")
    values = (0.0, 0.25, 0.0, float(np.float16(1.1)), 3.0 + number, 0.0, 1e-7, 0.0, 2.0)
    slices = (None, Interval(low=1.0, high=2.5, share=0.25, name="slice 3"), Interval(low=0.0, high=1.0, share=0.75, name="slice 1"))
    return FeatureRecord(
        source=SOURCE.id,
        number=number,
        density=0.125,
        max=3.0 + number,
        activations=Bars(values=(0.5, 1.5), heights=(2.0, 1.0)),
        percentiles=tuple(float(i) for i in range(100)),
        top_logits=(TokenLogit(text=" the", value=2.5), TokenLogit(text="<0xE6>", value=1.25)),
        bottom_logits=(TokenLogit(text='"', value=-0.5),),
        similar=((number + 1, 0.5),),
        explanations=(Explanation(text="numbers — 数", method="rule", score=0.75),),
        examples=tuple(Example(tokens=tokens, activations=values, peak=4, interval=each) for each in slices),
    )


def made_bundle(numbers: Sequence[int], source: Source = SOURCE) -> Bundle:
    def records(_: Source, wanted: Sequence[int] | None) -> Iterator[FeatureRecord]:
        return (replace(record(number), source=source.id) for number in numbers if wanted is None or number in wanted)

    return Bundle(format="made", path="made", sources=(source,), numbers=lambda _: list(numbers), records=records)


def held(one: FeatureRecord, name: str) -> FeatureRecord:
    """What a format has fields for."""
    if name == "circuit-tracer":
        bare = lambda entries: tuple(TokenLogit(text=entry.text) for entry in entries)  # noqa: E731  a local short form
        width = (one.max or 0.0) / 2
        bars = Bars(values=(width / 2, 3 * width / 2), heights=(2.0, 1.0))
        logits = {"top_logits": bare(one.top_logits), "bottom_logits": bare(one.bottom_logits)}
        return replace(one, **logits, similar=(), explanations=(), activations=bars)
    one = replace(one.in_pieces(), percentiles=())
    unnamed = tuple(replace(each, interval=each.interval and replace(each.interval, name="")) for each in one.examples)
    if name == "neuronpedia":
        return replace(one, examples=unnamed)
    if name == "saedashboard":
        return replace(one, examples=unnamed, similar=(), explanations=())
    said = tuple(Explanation(text=each.text) for each in one.explanations)
    return replace(one, examples=unnamed, similar=(), explanations=said, activations=None)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_is_read_back_is_what_was_written(name: str, tmp_path: Path) -> None:
    numbers = [0, 1, 130, 299]
    convert(made_bundle(numbers), tmp_path / "out", format_name=name)
    found = open_bundle(tmp_path / "out")
    assert found.format == name
    assert list(found.numbers(found.sources[0])) == numbers
    read = list(found.records(found.sources[0], None))
    assert [replace(each, extra={}) for each in read] == [held(replace(record(n), source=read[0].source), name) for n in numbers]
    text = record(0).examples[0].text
    assert text == "a 🦜<b>\r\n\\xe6 \\x日\x00"
    assert all(example.text == text for each in read for example in each.examples)
    assert found.feature(130).number == 130
    with pytest.raises(FeatureNotFound):
        found.feature(131)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_writing_what_was_read_gives_the_same_files(name: str, tmp_path: Path) -> None:
    convert(made_bundle([0, 5, 129]), tmp_path / "first" / "x", format_name=name)
    again = convert(open_bundle(tmp_path / "first" / "x"), tmp_path / "second" / "x", format_name=name)
    files = [file for file in again.manifest.files if "batch" in file or "upload" in file or file.endswith(".bin")]
    assert files
    for file in files:
        assert (tmp_path / "second" / "x" / file).read_bytes() == (tmp_path / "first" / "x" / file).read_bytes()


def test_tokens_keep_their_bytes_in_circuit_tracer_files(tmp_path: Path) -> None:
    convert(made_bundle([2]), tmp_path / "out", format_name="circuit-tracer")
    index = json.loads(gzip.decompress((tmp_path / "out/features/index.json.gz").read_bytes()))
    facts = index["3"]
    assert len(facts["offsets"]) == 301
    raw = (tmp_path / "out/features" / facts["filename"]).read_bytes()[
        facts["offsets"][2] : facts["offsets"][3] + 1
    ]  # ranges of HTTP include the end
    feature = json.loads(zlib.decompress(raw[4 : 4 + struct.unpack("<I", raw[:4])[0]]))
    example = feature["examples_quantiles"][0]["examples"][0]
    assert example["tokens"][:4] == ["a ", "\\xf0", "\\x9f\\xa6", "\\x9c"]
    assert example["tokens"][5] == "\\x5cxe6 \\x"
    found = open_bundle(tmp_path / "out").feature(2)
    assert found.examples[0].tokens == record(2).examples[0].tokens


def test_features_that_are_left_out_are_whole_records_in_circuit_tracer_files(tmp_path: Path) -> None:
    convert(made_bundle([2]), tmp_path / "out", format_name="circuit-tracer")
    facts = json.loads(gzip.decompress((tmp_path / "out/features/index.json.gz").read_bytes()))["3"]
    raw = (tmp_path / "out/features" / facts["filename"]).read_bytes()
    records = [json.loads(zlib.decompress(raw[low + 4 : high])) for low, high in pairwise(facts["offsets"])]
    assert [one["index"] for one in records] == list(range(300))
    assert {frozenset(one) for one in records if one["index"] != 2} == {frozenset({*records[2], "left_out"})}, "its own model asks for every field"


@pytest.mark.parametrize("name", WRITTEN)
def test_a_killed_export_goes_on_and_gives_the_same_bytes(name: str, index: FeatureIndex, tmp_path: Path) -> None:
    whole = export_index(index.store, tmp_path / "whole", format_name=name)
    kept, written, last = Draft.place, 0, {"circuit-tracer": 2, "delphi": 3, "neuronpedia": 6, "neuronpedia-upload": 1, "saedashboard": 1}

    def killed(self: Draft, file: str) -> AbstractContextManager[Path]:
        nonlocal written
        written += 1
        if written == last[name]:
            raise KeyboardInterrupt
        return kept(self, file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft, "place", killed)
        patch.setattr(Draft, "write", _through_place)
        with pytest.raises(KeyboardInterrupt):
            export_index(index.store, tmp_path / "cut", format_name=name)
    assert (tmp_path / "cut" / DRAFT).is_file()
    assert existing(tmp_path / "cut", "export", config=whole.manifest.config, inputs=whole.manifest.inputs) is None
    again = export_index(index.store, tmp_path / "cut", format_name=name)
    assert again.id == whole.id
    assert export_index(index.store, tmp_path / "cut", format_name=name).id == whole.id
    with pytest.raises(ArtifactConflict):
        export_index(index.store, tmp_path / "cut", format_name=name, wanted=Wanted(top=1))


def _through_place(draft: Draft, file: str, content: bytes | str) -> None:
    with draft.place(file) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_records_of_an_index_say_what_its_cards_say(index: FeatureIndex) -> None:
    bundle = bundle_of(index.store, Wanted(top=6, per_slice=4))
    source = bundle.source()
    assert (source.id, source.layer, source.site, source.n_features) == ("1-small", 1, "L1.resid_post", D_DICT)
    for one in bundle.records(source, None):
        card = index.card(one.number)
        assert (one.density, one.max, one.label) == (card.statistics.density, card.statistics.max, card.label.text)
        assert [entry.text for entry in one.top_logits] == [entry.piece for entry in card.logits.top]
        assert sum((one.activations or Bars()).heights) == card.statistics.count
        top = [example for example in one.examples if example.interval is None]
        assert len(top) == len(card.top)
        for example, window in zip(top, card.top, strict=True):
            assert "".join(window.pieces) in example.text  # the window, widened to whole characters
            assert example.activations[example.peak] == window.activation == max(example.activations[example.peak], 0)
            assert "\ufffd" not in example.text


def test_windows_are_widened_to_whole_characters(index: FeatureIndex) -> None:
    """Every example is a stretch of its document's exact bytes."""
    store = index.store
    bundle = bundle_of(store, Wanted())
    spans = [store.corpus.span(doc) for doc in range(store.corpus.n_docs)]
    texts = [b"".join(map(store.vocabulary.bytes, store.corpus.tokens[span.start : span.end].tolist())) for span in spans]
    for one in bundle.records(bundle.sources[0], None):
        for example in one.examples:
            raw = b"".join(example.tokens)
            assert raw.decode() == example.text
            assert raw in texts[int(example.origin.split()[1].strip(","))]


def test_a_delphi_cache_holds_every_activation(index: FeatureIndex, dense: npt.NDArray[np.float32], tmp_path: Path) -> None:
    """Against brute force: the locations and values are those of all activations above 0, the tokens those of the corpus."""
    export_index(index.store, tmp_path / "cache", format_name="delphi")
    folder = tmp_path / "cache/latents/layers.1"
    config = json.loads((folder / "config.json").read_text())
    context, n = config["cache_ctx_len"], index.store.corpus.n_tokens
    assert (context, config["n_tokens"]) == (64, n)
    found, files = np.zeros_like(dense), sorted(folder.glob("*.safetensors"))
    assert len(files) == config["n_splits"] == 5
    for file in files:
        arrays, first = load_file(file), int(file.stem.split("_")[0])
        where = arrays["locations"].astype(np.int64)
        assert arrays["locations"].dtype == np.uint16
        assert arrays["activations"].dtype == np.float16
        assert np.all(np.diff(where[:, 0] * context + where[:, 1]) >= 0)
        found[where[:, 0] * context + where[:, 1], where[:, 2] + first] = arrays["activations"]
        assert arrays["tokens"].dtype == np.int64
        assert np.array_equal(arrays["tokens"].reshape(-1)[:n], index.store.corpus.tokens)
    assert np.array_equal(found, dense)


def test_a_delphi_cache_is_read_and_becomes_dashboards(index: FeatureIndex, tmp_path: Path) -> None:
    export_index(index.store, tmp_path / "cache", format_name="delphi")
    cache = open_bundle(tmp_path / "cache")
    again = convert(cache, tmp_path / "again", format_name="delphi")
    for file in again.manifest.files:
        if file.endswith(".safetensors"):
            assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "cache" / file).read_bytes()
    convert(cache, tmp_path / "dashboards", format_name="neuronpedia")
    read = open_bundle(tmp_path / "dashboards")
    for one in read.records(read.sources[0], None):
        card = index.card(one.number)
        assert one.max == card.statistics.max
        assert len(one.examples) <= 20
        assert [example.activations[example.peak] for example in one.examples][:1] == ([one.max] if card.statistics.count else [])


def test_some_features_of_an_index(index: FeatureIndex, tmp_path: Path) -> None:
    index.set_label(7, text="seven 七")
    try:
        for name in DASHBOARDS:
            export_index(index.store, tmp_path / name, format_name=name, wanted=Wanted(features=[9, 7, 9], model="org/My model", set_name="a set"))
            found = open_bundle(tmp_path / name)
            assert [one.number for one in found.records(found.sources[0], None)] == [7, 9]
            if name.startswith("neuronpedia"):
                assert found.feature(7).label == "seven 七"
                assert (found.sources[0].id, found.sources[0].model) == ("1-a-set", "org-my-model")
    finally:
        index.set_label(7, text="")


def test_a_set_has_a_source_a_layer(layers_index: FeatureIndex, tmp_path: Path) -> None:
    n_layers = len(layers_index.sites)
    for name in WRITTEN:
        export_index(layers_index.store, tmp_path / name, format_name=name)
        found = open_bundle(tmp_path / name)
        assert sorted(source.layer for source in found.sources if source.layer is not None) == list(range(n_layers))
        source = found.source(next(each.id for each in found.sources if each.layer == 2))
        site, one = layers_index.sites[2], found.feature(3, source=source.id)
        assert one.max == pytest.approx(layers_index.card(layers_index.feature(site, 3)).statistics.max, rel=1e-3 if name == "delphi" else 0)
        with pytest.raises(SiteNotFound):
            found.feature(3)


@pytest.mark.parametrize(
    ("held", "asked", "wanted"),
    [
        ([3, 40, 1234], 99, "one of 3 features, 3 … 1234; the nearest are 40 and 1234"),
        ([3, 40, 1234], 2000, "one of 3 features, 3 … 1234; the nearest is 1234"),
        ([3, 40, 1234], 0, "one of 3 features, 3 … 1234; the nearest is 3"),
        ([3], 4, "feature 3, the only one"),
        ([], 4, "none: it is empty"),
    ],
)
def test_a_feature_that_is_not_in_the_files_has_neighbours_that_are(held: list[int], asked: int, wanted: str) -> None:
    bundle = replace(made_bundle(held), records=lambda _, wanted: iter([]))
    with pytest.raises(FeatureNotFound) as error:
        bundle.feature(asked)
    assert error.value.wanted == wanted


def test_what_cannot_be_held_is_named(index: FeatureIndex, tmp_path: Path) -> None:
    with pytest.raises(FormatCannotHold, match="every activation"):
        convert(made_bundle([1]), tmp_path / "a", format_name="delphi")
    with pytest.raises(FormatCannotHold, match="layer"):
        convert(made_bundle([1], replace(SOURCE, layer=None)), tmp_path / "b", format_name="circuit-tracer")
    for name, kind, match in (("neuron-record", FormatCannotHold, "read, not written"), ("neuronpedai", NotRegistered, "no format is called")):
        with pytest.raises(kind, match=match) as error:
            convert(made_bundle([1]), tmp_path / "c", format_name=name)
        assert str(error.value.wanted).split(", ") == written_formats() == sorted(WRITTEN)
    with pytest.raises(ConfigError, match="no features"):
        export_index(index.store, tmp_path / "d", format_name="neuronpedia", wanted=Wanted(features=[]))
    with pytest.raises(FormatUnknown):
        open_bundle(tmp_path / "nowhere")
    nan = replace(record(1), density=float("nan"))
    bundle = replace(made_bundle([1]), records=lambda _, wanted: iter([nan]))
    for name in DASHBOARDS:
        with pytest.raises(ValueError, match="JSON"):
            convert(bundle, tmp_path / f"nan-{name}", format_name=name)


@pytest.mark.parametrize("name", ["circuit-tracer", "neuronpedia", "neuronpedia-upload", "saedashboard"])
def test_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    convert(made_bundle([0]), tmp_path / "out", format_name=name)
    parts = {
        "circuit-tracer": "*.bin",
        "neuronpedia": "activations/batch-0.jsonl.gz",
        "neuronpedia-upload": "upload-0.json",
        "saedashboard": "batch-0.json",
    }
    (file,) = (tmp_path / "out").rglob(parts[name])
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"[]" + whole[2:]):
        file.write_bytes(broken)
        with pytest.raises((BundleInvalid, FormatUnknown)):
            found = open_bundle(tmp_path / "out")
            list(found.records(found.sources[0], None))


def test_every_format_is_registered() -> None:
    assert set(EXCHANGES) == {*WRITTEN, "neuron-record"}
