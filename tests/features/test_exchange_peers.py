"""What other tools' own code wrote is read as it was meant; `bench/peers/exchange_fixtures.py` makes it and lets those tools open ours."""

import gzip
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from microtome.errors import BundleInvalid
from microtome.features.exchange import Bars, Example, Explanation, Interval, TokenLogit, convert, open_bundle

FIXTURES = Path(__file__).parent / "fixtures"
NIHON = (b"a", " 日".encode(), "本\n".encode())


def test_each_of_them_opened_what_microtome_writes() -> None:
    record = json.loads((FIXTURES / "record.json").read_text())
    assert set(record) == {"neuronpedia", "saedashboard", "delphi", "circuit_tracer"}
    assert all(min(count for count in each["opened"].values() if isinstance(count, int)) > 0 for each in record.values())


def test_an_upload_of_neuronpedias_client() -> None:
    bundle = open_bundle(FIXTURES / "neuronpedia" / "upload-0.json")
    assert bundle.format == "neuronpedia-upload"
    one = bundle.feature(7)
    assert (bundle.source().model, bundle.source().id, bundle.source().layer) == ("tiny", "3-made", 3)
    assert (one.density, one.explanations) == (0.125, (Explanation(text="numbers", method="np_max-act", model="gpt-4o-mini"),))
    assert one.top_logits == (TokenLogit(text=" the", value=2.5), TokenLogit(text="日", value=1.0))
    assert one.bottom_logits == (TokenLogit(text='"', value=-0.5),)
    interval = Interval(low=1.0, high=2.0, share=0.25)
    assert one.examples == (Example(tokens=NIHON, activations=(0.0, 1.5, 0.25), peak=1, interval=interval),)


def test_a_batch_of_saedashboards_classes(tmp_path: Path) -> None:
    bundle = open_bundle(FIXTURES / "saedashboard")
    one = bundle.feature(7)
    assert (bundle.source().model, bundle.source().id) == ("tiny", "3-made")
    assert (bundle.source().dataset, bundle.source().n_prompts, bundle.source().prompt_tokens) == ("monology/pile-uncopyrighted", 24576, 128)
    assert (one.density, one.max, one.activations) == (0.0125, 3.5, Bars(values=(0.5, 1.5), heights=(3.0, 1.0)))
    top, drawn = one.examples
    assert (top.text, top.interval, top.peak) == ("a 日本\n", None, 1)
    assert (drawn.text, drawn.interval) == (" b", Interval(low=0.5, high=1.25, share=0.125))
    assert one.extra["saedashboard"]["correlated_features_indices"] == [3]  # kept for its own format
    made = convert(bundle, tmp_path / "again", format_name="saedashboard")
    again = json.loads((made.path / "3-made" / "batch-0.json").read_text())
    assert again == json.loads((FIXTURES / "saedashboard" / "batch-0.json").read_text())


def test_a_cache_of_delphi() -> None:
    """4 contexts of 8 tokens, 10 latents in two files: latent i is active on token t with i + t / 8 + 1 where (i + t) % 5 is 0."""
    bundle = open_bundle(FIXTURES / "delphi")
    source = bundle.source()
    assert (source.id, source.site, source.n_features, source.prompt_tokens, source.model) == ("layers.3.mlp", "L3.mlp_out", 10, 8, "tiny")
    assert bundle.cache is not None
    found = bundle.cache.entries(source, first=0, last=9)
    dense = np.zeros((32, 10), dtype=np.float32)
    dense[found.positions, found.numbers] = found.values
    i, t = np.arange(10)[None], np.arange(32)[:, None]
    assert np.array_equal(dense, np.where((i + t) % 5 == 0, i + t / 8 + 1, 0).astype(np.float32))
    one = bundle.feature(6)  # active on tokens 4, 9, 14, 19, 24 and 29, more strongly each time
    assert (one.max, one.density) == (6 + 29 / 8 + 1, 6 / 32)
    assert [example.origin for example in one.examples] == [f"context {c}, token {p}" for c, p in ((3, 5), (2, 3), (1, 6), (0, 4))]
    assert one.examples[0].text == "".join(f"<{token}>" for token in range(24, 32))  # without a vocabulary, the tokens' numbers
    assert one.examples[0].activations == (6 + 3 + 1, 0, 0, 0, 0, 6 + 29 / 8 + 1, 0, 0)


def test_a_feature_of_circuit_tracers_model(tmp_path: Path) -> None:
    """Its JSON in a bin of one record, as a gzip member this time: its pages unpack both."""
    raw = (FIXTURES / "circuit_tracer" / "feature.json").read_bytes()
    folder = tmp_path / "tiny" / "features"
    folder.mkdir(parents=True)
    packed = gzip.compress(raw)
    (folder / "layer_3.bin").write_bytes(struct.pack("<I", len(packed)) + packed)
    (folder / "index.json.gz").write_bytes(
        gzip.compress(json.dumps([None, None, None, {"filename": "layer_3.bin", "offsets": [0] * 8 + [4 + len(packed)]}]).encode())
    )
    bundle = open_bundle(tmp_path / "tiny")
    one = bundle.feature(7)
    assert (bundle.source().layer, bundle.source().id, one.max, one.density) == (3, "tiny-3", 2.25, 0.0125)
    assert one.activations == Bars(values=(0.75, 1.75), heights=(4.0, 2.0))
    (example,) = one.examples
    assert (example.text, example.tokens, example.peak) == ("a日", (b"a", b"\xe6\x97", b"\xa5"), 1)
    assert example.interval == Interval(name="Subsample Interval 0")
    assert example.extra["circuit-tracer"]["is_repeated_datapoint"] is True
    again = convert(replace(bundle, numbers=lambda _: [7]), tmp_path / "again", format_name="circuit-tracer")
    rows = (again.path / "features" / "layer_3.bin").read_bytes()
    written = open_bundle(again.path).feature(7)
    assert written == replace(one, source=written.source)
    assert zlib.compress(b"", 6)[:2] in rows


def test_openais_neuron_records(tmp_path: Path) -> None:
    """As its dataclasses are dumped: names of the classes, NaN for what was not measured, quantiles with their boundaries."""
    strip = {"dataclass_name": "ActivationRecord", "tokens": ["The", " 日", "本"], "activations": [0.0, 2.5, -0.5]}
    found = {
        "dataclass_name": "NeuronRecord",
        "neuron_id": {"dataclass_name": "NeuronId", "layer_index": 5, "neuron_index": 131},
        "random_sample": [strip],
        "random_sample_by_quantile": [[strip], [strip, strip]],
        "quantile_boundaries": [1.5],
        "mean": float("nan"),
        "variance": 0.25,
        "most_positive_activation_records": [strip],
    }
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "131.json").write_text(json.dumps(found))
    for path in (tmp_path, tmp_path / "5" / "131.json"):
        bundle = open_bundle(path)
        assert (bundle.format, bundle.source().layer) == ("neuron-record", 5)
        one = bundle.feature(131)
        assert (one.max, one.extra) == (2.5, {"neuron-record": {"variance": 0.25}})
        names = [example.interval and (example.interval.name, example.interval.low, example.interval.high) for example in one.examples]
        assert names == [None, ("quantile 0", None, 1.5), ("quantile 1", 1.5, None), ("quantile 1", 1.5, None), ("random sample", None, None)]
        assert {example.text for example in one.examples} == {"The 日本"}
    found["most_positive_activation_records"] = [strip | {"activations": [0.0, float("nan"), 1.0]}]
    (tmp_path / "5" / "131.json").write_text(json.dumps(found))
    with pytest.raises(BundleInvalid, match="131"):
        open_bundle(tmp_path).feature(131)


def test_the_answer_of_neuronpedias_feature_route(tmp_path: Path) -> None:
    """One object with its rows inside; unknown keys stay for its own format."""
    row = {
        "modelId": "gpt2-small",
        "layer": "6-res-jb",
        "index": "650",
        "maxActApprox": 12.5,
        "frac_nonzero": 0.001,
        "pos_str": [" sea"],
        "pos_values": [1.5],
        "neg_str": [],
        "neg_values": [],
        "freq_hist_data_bar_heights": [4, 1],
        "freq_hist_data_bar_values": [3.0, 9.0],
        "umap_x": 0.5,
        "activations": [{"tokens": ["the", " sea"], "values": [0, 12.5], "binMin": -1, "binMax": 12.5, "binContains": -1, "lossValues": [0.1, 0.2]}],
        "explanations": [{"description": "the sea", "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini", "scores": []}],
    }
    (tmp_path / "650.json").write_text(json.dumps(row))
    one = open_bundle(tmp_path / "650.json").feature(650)
    assert (one.source, one.max, one.label, one.top_logits) == ("6-res-jb", 12.5, "the sea", (TokenLogit(text=" sea", value=1.5),))
    assert one.extra["neuronpedia"]["umap_x"] == 0.5
    assert one.examples[0].extra["neuronpedia"]["lossValues"] == [0.1, 0.2]
    assert (one.examples[0].text, one.examples[0].interval) == ("the sea", None)
