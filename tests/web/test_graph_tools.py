"""What the graph page does with the model and with a second graph, in a real Chromium: one workspace and one page for all of it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from microtome.artifacts import Workspace
from microtome.circuits import Graph, Merged, contrast, interventions, labels_from, node_name, outcome, prune, suggest, tried
from microtome.dictionaries import DictionarySet, load_any
from microtome.features import FeatureIndex
from microtome.models import Model
from microtome.steering import Sampling, times_current
from microtome.web import create_app
from tests.web.chromium import CHROMIUM, EXPECTED, chromium, same_host, watched
from tests.web.graphs import GRAPH, HOSTILE, PROMPTS
from tests.web.serving import serving

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def place(circuits: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(shutil.copytree(circuits, tmp_path_factory.mktemp("tools") / "workspace"))


@pytest.fixture(scope="module")
def page(place: Workspace, model: Model) -> Iterator[Page]:
    app = create_app(place.path, model_loader=lambda ref, progress: model)
    with serving(app) as address, chromium() as browser:
        here = same_host(address)
        with watched(browser, address, inside=lambda url: here(url) or url.startswith("blob:"), expected=EXPECTED) as page:
            yield page


@pytest.fixture(scope="module")
def graph(place: Workspace) -> Graph:
    return Graph.open(place.find("graph", GRAPH))


def opened(page: Page, query: str = "") -> None:
    page.goto(f"/g/{GRAPH}{query}")
    expect(page.locator(".graph[aria-busy=false] .picture canvas")).to_have_count(2)


def strong(graph: Graph) -> list[str]:
    """The features with most influence that are shown at the thresholds of default, the strongest first."""
    pruned = prune(graph)
    order = np.argsort(-pruned.influence * (graph.nodes.kind == 3) * pruned.nodes)
    return [node_name(graph, int(i)) for i in order[:4]]


def figure(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "").replace(",", ""))


GATHER = """async (ids) => {
  const state = await import("/static/graph/state.js");
  state.gather(state.readState(new URLSearchParams(location.search)), { name: "both", ids });
}"""


def test_an_intervention_shows_predicted_and_measured_and_both_continuations(page: Page, place: Workspace, *, model: Model, graph: Graph) -> None:
    chosen, other = strong(graph)[:2]
    tokens = torch.tensor([graph.tokens])
    before = model.logits(tokens)
    opened(page)
    expect(page.locator("#act")).to_contain_text("Select a feature")
    opened(page, f"?at={quote(chosen, safe='')}&more=6")
    page.get_by_role("button", name="multiply").click()
    page.locator("#act-factor").fill("-10")
    page.wait_for_function("location.search.includes('by=-10')")
    page.locator("#act-run").click()
    dictionaries = load_any(place.by_id("dictionary", graph.dictionaries[0]))
    assert isinstance(dictionaries, DictionarySet)
    group = interventions([chosen], times_current(-10.0), operation="multiply")
    wanted = outcome(model, dictionaries, graph=graph, group=group, sampling=Sampling(max_new_tokens=6))
    expect(page.locator(".outcome")).to_be_visible()
    assert figure(page.locator("#predicted").inner_text()) == pytest.approx(wanted.predicted, rel=6e-3)
    assert figure(page.locator("#measured").inner_text()) == pytest.approx(wanted.measured, rel=6e-3)
    told = page.locator(".continued .strip").all_text_contents()
    assert (told[0].endswith(wanted.unedited or "?"), told[1].endswith(wanted.edited or "?")) == (True, True)
    page.locator(".outcome summary").click()
    expect(page.locator(".outcome pre")).to_contain_text(f"interventions(['{chosen}'], times_current(-10.0)")

    page.evaluate(GATHER, [chosen, other])
    page.locator("#act-on").select_option("group both")
    page.get_by_role("button", name="ablate").click()
    page.locator("#act-run").click()
    expect(page.locator(".outcome")).to_contain_text("2 features changed")
    assert parse_qs(urlsplit(page.url).query)["on"] == ["group both"]
    page.get_by_role("button", name="set", exact=True).click()
    page.locator("#act-by").fill("1e9")
    page.locator("#act-by").press("Enter")
    expect(page.locator("#act [role=alert]")).to_contain_text("value")
    page.locator("#act-end").select_option(label="all held")
    page.get_by_role("button", name="ablate").click()
    page.locator("#act-run").click()
    expect(page.locator(".outcome")).to_be_visible()
    assert torch.equal(model.logits(tokens), before)


def test_nodes_are_tested_and_tokens_swapped_by_a_button_and_the_answers_stay(page: Page, place: Workspace) -> None:
    opened(page)
    page.locator("#test-run").click()
    expect(page.locator("#tested .scatter circle")).not_to_have_count(0, timeout=30_000)
    made = tried(place, GRAPH).trial
    assert made is not None
    expect(page.locator("#tested .scatter circle")).to_have_count(len(made["nodes"]))
    expect(page.locator("#tested tbody tr")).to_have_count(len(made["results"]))
    page.locator("#swap-run").click()
    expect(page.locator("#missing .swaps tbody tr")).not_to_have_count(0, timeout=30_000)
    swapped = tried(place, GRAPH).missing
    assert swapped is not None
    expect(page.locator("#missing .swaps tbody tr")).to_have_count(len(swapped["positions"]))
    expect(page.locator("#missing .swaps .suspect")).to_have_count(len(swapped["suspects"]))
    opened(page)
    expect(page.locator("#tested .scatter circle")).to_have_count(len(made["nodes"]))
    expect(page.locator("#missing .swaps tbody tr")).to_have_count(len(swapped["positions"]))


def test_suggested_supernodes_are_gathered(page: Page, graph: Graph) -> None:
    opened(page, "?node=1&edge=1")
    shown = np.flatnonzero(prune(graph, node_threshold=1.0, edge_threshold=1.0).nodes).tolist()
    groups = suggest(graph, shown)
    page.locator("#suggest").click()
    if not groups:
        expect(page.locator("#groups")).to_contain_text("No other features look alike")
        return
    expect(page.locator("#suggested li")).to_have_count(min(12, len(groups)))
    page.locator("#suggested li").first.get_by_role("button", name="gather").click()
    expect(page.locator("#groups .swatch")).to_have_count(1)
    expect(page.locator("#subgraph .block")).to_have_count(1)


def test_a_card_tells_what_a_feature_feeds_over_the_corpus(page: Page, place: Workspace, graph: Graph) -> None:
    chosen = strong(graph)[0]
    layer, feature = (int(number) for number in re.findall(r"\d+", chosen)[:2])
    index = FeatureIndex.open(place.find("index", "layers"), place)
    opened(page, f"?at={quote(chosen, safe='')}")
    found = index.downstream(index.feature(f"L{layer}.mlp_in", feature), limit=5)
    fed = index.upstream(index.feature(f"L{layer}.mlp_in", feature), limit=5)
    count = sum(map(len, (found.promotes, found.suppresses, fed.promotes, fed.suppresses)))
    assert count > 0
    expect(page.locator("#twera tbody tr")).to_have_count(count)


def wanted_contrast(place: Workspace, graph: Graph) -> Merged:
    other = Graph.open(place.find("graph", HOSTILE))
    index = FeatureIndex.open(place.find("index", "layers"), place)
    return contrast(graph, other, labels={**labels_from(index, graph), **labels_from(index, other)})


def test_a_second_graph_is_subtracted_and_the_address_keeps_it(page: Page, place: Workspace, graph: Graph) -> None:
    found = wanted_contrast(place, graph)
    opened(page)
    page.locator("#against").select_option(HOSTILE)
    expect(page.locator("#contrast .picture canvas")).to_have_count(2)
    nodes = [node for node in found.nodes if node.kind != "target"]
    both = [node for node in nodes if None not in node.activation]
    lists = {
        "only-first": [node for node in nodes if node.activation[1] is None],
        "only-second": [node for node in nodes if node.activation[0] is None],
        "changed": [node for node in both if node.influence[0] != node.influence[1] or node.activation[0] != node.activation[1]],
    }
    for id, wanted in lists.items():
        expect(page.locator(f"#{id} h2 .quiet")).to_have_text(f"{len(wanted):,}")
        assert wanted, f"nothing is {id}"
        listed = page.locator(f"#{id} button[data-id]").evaluate_all("all => all.map(one => one.dataset.id.replace(/^second /, ''))")
        assert listed == [node.name for node in wanted[:12]]
    known = [edge for edge in found.edges if edge.difference is not None]
    feature = next(
        i for i, node in enumerate(found.nodes) if node.kind == "feature" and None in node.activation and any(e.source == i for e in known)
    )
    side = "second " if found.nodes[feature].activation[0] is None else ""
    page.goto(f"{page.url}&at={quote(side + found.nodes[feature].name, safe='')}")
    expect(page.locator("#selected .code")).to_have_text(found.nodes[feature].name)
    expect(page.locator("#selected")).to_contain_text("silent")
    out = sum(edge.source == feature for edge in known)
    expect(page.locator("#selected h3 .quiet").first).to_have_text(f"{out}")
    assert "<img" not in page.locator("#contrast").evaluate("one => [...one.querySelectorAll('img')].map(String).join()")
    address = page.url
    page.goto("/")
    page.goto(address)
    expect(page.locator("#against")).to_have_value(HOSTILE)
    expect(page.locator("#contrast .note").first).to_contain_text(PROMPTS[GRAPH])
    expect(page.locator("#contrast pre")).to_contain_text("contrast(graph, other")
    page.locator("#against").select_option("")
    expect(page.locator("#contrast")).to_have_count(0)


def test_it_all_fits_the_window(page: Page, graph: Graph) -> None:
    for query in (f"?at={quote(strong(graph)[0], safe='')}", f"?against={HOSTILE}"):
        opened(page, query)
        for width in (1400, 700):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{query} at {width}"
        page.set_viewport_size({"width": 1400, "height": 900})
