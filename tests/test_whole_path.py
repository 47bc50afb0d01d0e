"""The whole path once, on the real demo model and real text, as a user takes it: the demo's command, its artifacts, its report, its pages."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import expect

from microtome.activations import Corpus, Shards
from microtome.artifacts import Workspace
from microtome.circuits import Graph, tried
from microtome.dictionaries import load_dictionary
from microtome.features import FeatureIndex
from microtome.models import Model, load
from microtome.web import create_app
from tests.web.chromium import CHROMIUM, chromium
from tests.web.serving import serving

pytestmark = pytest.mark.timeout(1200)

TOKENS, FEATURES = 30_000, 1024
COMMAND = ["demo", "--no-serve", "--json", "--tokens", str(TOKENS), "--features", str(FEATURES), "--train-tokens", "300000", "--no-steer"]


def run(workspace: Path) -> dict[str, Any]:
    """The demo's result; a machine without the packages and without a registry skips, and says so."""
    command = [sys.executable, "-m", "microtome", *COMMAND, "--workspace", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    result = json.loads(done.stdout)
    if result.get("error") == "CarrierUnavailable":
        pytest.skip(f"the demo's packages cannot be downloaded here: {result['got']}")
    assert done.returncode == 0, done.stderr
    return result


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def index(demo: Path) -> FeatureIndex:
    return FeatureIndex.open(Workspace(demo).find("index"), demo)


@pytest.fixture(scope="module")
def model() -> Model:
    return load("demo", selfcheck=False)


def test_the_second_run_makes_nothing_again(demo: Path) -> None:
    again = run(demo)
    made = {step["step"]: step for step in again["costs"]}
    assert all(made[name]["reused"] for name in ("corpus", "harvest", "train", "index"))


def test_the_dictionary_beats_both_controls_on_held_out_documents(index: FeatureIndex) -> None:
    quality = index.overview().quality
    fvu, recovered = quality["fvu"], quality["ce_recovered"]
    assert fvu["high"] < fvu["baselines"]["random"]
    assert fvu["high"] < fvu["baselines"]["mean"]
    assert recovered["low"] > recovered["baselines"]["random"]
    assert quality["l0"]["value"] <= 32
    assert quality["split"] == "test"


def test_what_the_index_stores_is_what_the_model_and_the_dictionary_compute(demo: Path, index: FeatureIndex, model: Model) -> None:
    """A document's activations recomputed from its tokens: stored values are bf16 roundings of activations captured in another batch."""
    workspace = Workspace(demo)
    corpus, dictionary = Corpus.open(workspace.find("corpus")), load_dictionary(workspace.find("dictionary"))
    shards = Shards.open(workspace.find("shards"))
    site = dictionary.reads
    span = corpus.span(7)
    contexts = [start for start in corpus.context_start if span.start <= start < span.end] + [span.end]
    rows = [model.capture(torch.from_numpy(corpus.tokens[first:last].copy())[None], [site])[site][0] for first, last in pairwise(contexts)]
    fresh = torch.cat(rows)
    stored = shards.block(0, site).x[span.start : span.end].float()
    keep = torch.from_numpy(shards.keep[span.start : span.end])
    assert torch.allclose(stored[keep], fresh[keep], rtol=1e-2, atol=0.05)

    dense = torch.zeros(len(fresh), dictionary.d_dict)
    codes = dictionary.encode(stored)
    dense.scatter_(1, codes.indices.long(), codes.values)
    dense[~keep] = 0
    view = index.document(7, length=len(span), limit=dictionary.d_dict)
    seen = torch.zeros_like(dense)
    for feature in view.features:
        seen[list(feature.offsets), feature.feature] = torch.tensor(feature.activations)
    assert torch.allclose(seen, dense, rtol=1e-2)
    assert "".join(view.pieces) == model.tokenizer.text(corpus.tokens[span.start : span.end].tolist())


def test_labels_beat_chance_and_shuffled_firings_would_not(index: FeatureIndex) -> None:
    rules = [index.rule(feature) for feature in range(FEATURES)]
    tested = [(rule.f1_test, rule.f1_null) for rule in rules if rule.f1_test is not None and not rule.weak]
    assert len(tested) > FEATURES // 20
    assert np.mean([test > 3 * null for test, null in tested]) > 0.9


def test_a_typed_text_finds_features_that_fire_on_such_text(index: FeatureIndex, model: Model) -> None:
    """Features that rank highest for a text about a place fire more in the corpus' Geography documents than elsewhere; any features do not."""
    text = "The city is the capital of the province and lies on the river in the north of the country."
    found = [hit.feature for hit in index.search(model, text, rank="specific", limit=15).hits]

    def median_lift(features: list[int]) -> float:
        parts = [index.card(feature).breakdowns["corpus_label"] for feature in features]
        return float(np.median([next((part.lift for part in each if part.name == "Geography"), 0.0) for each in parts]))

    assert median_lift(found) > 1.4
    assert median_lift(list(range(0, FEATURES, 17))) < 1.2


def test_it_ends_with_a_graph_whose_predictions_were_tried_in_the_model(demo: Path) -> None:
    workspace = Workspace(demo)
    graph, trial = Graph.open(workspace.find("graph")), tried(workspace, "wiki").trial
    assert (graph.balance() or 1) < 1e-3
    assert trial is not None
    assert len(trial["nodes"]) >= 30
    assert any(node["ablated"] != 0 for node in trial["nodes"])
    assert "Why did it say that?" in (demo / "report.html").read_text()


def test_the_report_stands_alone(demo: Path) -> None:
    html = (demo / "report.html").read_text()
    assert "<svg" in html
    for outside in ("http://", "https://", "<script src", "<link rel"):
        assert outside not in html.replace("http://www.w3.org/2000/svg", "").replace('href="http://localhost:8765/g/wiki"', "")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_pages_show_the_real_index(demo: Path, model: Model) -> None:
    app = create_app(demo, model_loader=lambda ref, progress: model)
    with serving(app) as address, chromium() as browser:
        page = browser.new_page(base_url=address)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/s/wiki")
        expect(page.locator("h1")).not_to_be_empty()
        page.goto("/s/wiki/search?text=The+Roman+Empire+conquered+Gaul.")
        page.locator('a[href*="/f/"]').first.click()
        expect(page).to_have_url(re.compile("/f/"))
        expect(page.locator("h1")).not_to_be_empty()
        assert errors == []
