"""The graph page in a real Chromium: it shows what the file says at the same thresholds, and its address is its state."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from microtome.artifacts import Workspace
from microtome.circuits import Graph, GraphView, labels_from, view
from microtome.features import FeatureIndex
from microtome.models import Model
from microtome.web import create_app
from tests.web.chromium import CHROMIUM, EXPECTED, chromium, same_host, watched
from tests.web.graphs import GRAPH, HOSTILE, PROMPTS
from tests.web.serving import serving
from tests.web.small import SCRIPT

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(circuits: Path, model: Model) -> Iterator[str]:
    with serving(create_app(circuits, model_loader=lambda ref, progress: model)) as address:
        yield address


@pytest.fixture
def page(browser: Browser, served: str) -> Iterator[Page]:
    here = same_host(served)
    with watched(browser, served, inside=lambda url: here(url) or url.startswith("blob:"), expected=EXPECTED) as page:
        yield page


def file_says(circuits: Path, *, node: float = 0.8, edge: float = 0.98) -> GraphView:
    """The graph read from its file, pruned, with labels: no server in between."""
    place = Workspace(circuits)
    graph = Graph.open(place.find("graph", GRAPH))
    labels = labels_from(FeatureIndex.open(place.find("index", "layers"), place), graph)
    return view(graph, node_threshold=node, edge_threshold=edge, labels=labels)


def opened(page: Page, query: str = "", *, name: str = GRAPH) -> None:
    page.goto(f"/g/{name}{query}")
    expect(page.locator(".graph[aria-busy=false] .picture canvas")).to_have_count(2)


def state(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def strongest_feature(shown: GraphView) -> str:
    features = [node for node in shown.nodes if node.kind == "feature" and node.expanded]
    return min(features, key=lambda node: 1.0 if node.influence is None else node.influence).id


@pytest.mark.parametrize(("node", "edge"), [(0.8, 0.98), (0.45, 0.7)])
def test_the_page_shows_what_the_file_says_at_the_same_thresholds(page: Page, circuits: Path, *, node: float, edge: float) -> None:
    shown = file_says(circuits, node=node, edge=edge)
    opened(page, f"?node={node}&edge={edge}")
    more = page.locator("#nodes > button", has_text="more")
    if more.count():
        more.click()
    listed = page.locator("#nodes li button").evaluate_all("all => all.map(one => one.dataset.id)")
    assert sorted(listed) == sorted(one.id for one in shown.nodes)
    told = page.locator(".hides").inner_text()
    assert f"{shown.hidden.nodes:,} nodes" in told
    assert f"{shown.hidden.edges:,} edges" in told
    drawn = page.evaluate(DRAWN, GRAPH + f"?node={node}&edge={edge}")
    assert sorted(drawn["placed"]) == sorted(one.id for one in shown.nodes)

    ids = [one.id for one in shown.nodes]
    chosen = strongest_feature(shown)
    page.locator(f'#nodes [data-id="{chosen}"]').click()
    for side, own, other in (("inputs", 1, 0), ("outputs", 0, 1)):
        more = page.locator(f"#{side} > button")
        if more.count():
            more.click()
        rows = page.locator(f"#{side} li button").evaluate_all("all => all.map(one => [one.dataset.id, Number(one.dataset.weight)])")
        wanted = [(ids[int(one[other])], one[2]) for one in shown.edges if ids[int(one[own])] == chosen]
        assert sorted(map(tuple, rows)) == sorted(wanted)
        sizes = [abs(weight) for _, weight in rows]
        assert sizes == sorted(sizes, reverse=True)


DRAWN = """async (path) => {
  const { layout } = await import("/static/graph/layout.js");
  const view = await (await fetch("/api/graphs/" + path)).json();
  const made = layout(view, () => true, { width: 800, height: 620 });
  const placed = view.nodes.filter((_, i) => !Number.isNaN(made.x[i])).map((node) => node.id);
  const spots = new Set(view.nodes.map((_, i) => `${made.x[i]} ${made.y[i]}`));
  return { placed, spots: spots.size };
}"""


def test_no_two_nodes_stand_in_the_same_spot(page: Page) -> None:
    opened(page)
    drawn = page.evaluate(DRAWN, f"{GRAPH}?node=1&edge=1")
    assert drawn["spots"] == len(drawn["placed"])


def test_the_scores_are_always_in_sight(page: Page, circuits: Path) -> None:
    opened(page)
    tiles = page.locator(".scores").inner_text()
    for name in ("error share", "replacement", "completeness", "untraced", "balance"):
        assert name in tiles
    said = file_says(circuits).scores.error_share
    assert said is not None
    share = float(re.search(r"error share\s+([\d.]+) %", tiles)[1])  # type: ignore[index]  # a miss fails the test
    assert share == pytest.approx(100 * said, rel=0.05)


def test_sliders_prune_and_say_what_they_hide(page: Page, circuits: Path) -> None:
    opened(page)
    page.locator("#node").fill("0.5")
    page.wait_for_function("location.search.includes('node=0.5')")
    shown = file_says(circuits, node=0.5)
    expect(page.locator(".hides")).to_contain_text(f"{shown.hidden.nodes:,} nodes")
    expect(page.locator(".reproduce pre").last).to_contain_text("node_threshold=0.5")
    before = int(page.locator("#nodes h2 .quiet").inner_text())
    page.locator("#density").fill("-1.5")
    page.wait_for_function("location.search.includes('density=')")
    expect(page.locator("#nodes h2 .quiet")).not_to_have_text(str(before))
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#nodes h2 .quiet")).to_have_text(str(before))
    page.keyboard.press("u")
    expect(page.locator(".hides")).to_contain_text(f"{file_says(circuits).hidden.nodes:,} nodes")
    page.keyboard.press("U")
    expect(page.locator(".hides")).to_contain_text(f"{shown.hidden.nodes:,} nodes")


def test_the_keyboard_walks_the_graph_pins_and_takes_back(page: Page, circuits: Path) -> None:
    shown = file_says(circuits)
    ids, chosen = [one.id for one in shown.nodes], strongest_feature(shown)
    opened(page, f"?at={quoted(chosen)}")
    expect(page.locator("#selected .code")).to_have_text(chosen)
    inputs = [edge for edge in shown.edges if ids[edge[1]] == chosen]
    best = ids[max(inputs, key=lambda edge: abs(edge[2]))[0]]
    page.keyboard.press("p")
    page.keyboard.press("i")
    expect(page.locator("#selected .code")).to_have_text(best)
    page.keyboard.press("p")
    expect(page.locator("#subgraph .block")).to_have_count(2)
    expect(page.locator("#subgraph tr.edge")).to_have_count(1)
    page.keyboard.press("u")
    expect(page.locator("#subgraph .block")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#selected")).to_have_count(0)
    assert "at" not in state(page)

    page.locator(".picture").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#selected .code")).to_contain_text("logit")
    first = page.locator("#selected .code").inner_text()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#selected .code")).not_to_have_text(first)
    page.keyboard.press("?")
    expect(page.locator("dialog.help")).to_contain_text("strongest input")


def test_a_link_keeps_everything(page: Page, circuits: Path) -> None:
    shown = file_says(circuits, node=0.9)
    features = [one.id for one in shown.nodes if one.kind == "feature"][:3]
    target = next(one.id for one in shown.nodes if one.kind == "target")
    pins = [*features, target]
    opened(page, "?node=0.9&links=20")
    page.evaluate(
        """async ([pins, ids]) => {
            const state = await import("/static/graph/state.js");
            const now = () => state.readState(new URLSearchParams(location.search));
            state.togglePins(now(), pins);
            state.gather(now(), { name: "a, b; c: 100%", ids });
            state.select(pins[0]);
        }""",
        [pins, features[:2]],
    )
    expect(page.locator("#groups li")).to_contain_text("a, b; c: 100%")
    expect(page.locator("#subgraph .block")).to_have_count(3)
    address = page.url
    page.goto("/")
    page.goto(address)
    expect(page.locator("#groups .label")).to_have_text("a, b; c: 100%")
    expect(page.locator("#subgraph .block")).to_have_count(3)
    expect(page.locator("#selected .code")).to_have_text(features[0])
    expect(page.locator("#links")).to_have_value("20")
    page.get_by_role("button", name="dissolve").click()
    expect(page.locator("#subgraph .block")).to_have_count(4)
    assert "groups" not in state(page)


def test_nodes_are_hovered_clicked_and_lassoed(page: Page) -> None:
    opened(page)
    spots = page.evaluate(
        """async (path) => {
            const { layout } = await import("/static/graph/layout.js");
            const view = await (await fetch(path)).json();
            const box = document.querySelector(".picture");
            const width = Math.max(280, Math.floor(document.querySelector(".stage").clientWidth - 32));
            const made = layout(view, () => true, { width, height: 620 });
            const rect = box.getBoundingClientRect();
            return view.nodes.map((node, i) => ({ id: node.id, x: rect.left + made.x[i] - box.scrollLeft, y: rect.top + made.y[i] - box.scrollTop }));
        }""",
        f"/api/graphs/{GRAPH}",
    )
    lowest: dict[str, Any] = max(spots, key=lambda one: one["y"])
    page.mouse.move(lowest["x"] + 1, lowest["y"] + 1)
    expect(page.locator(".hover")).to_contain_text(lowest["id"])
    page.mouse.click(lowest["x"] + 1, lowest["y"] + 1)
    expect(page.locator("#selected .code")).to_have_text(lowest["id"])
    page.keyboard.press("Escape")

    left, right = min(one["x"] for one in spots) - 12, max(one["x"] for one in spots) + 12
    top, foot = min(one["y"] for one in spots) - 10, lowest["y"] - 9
    caught = [one["id"] for one in spots if one["y"] < foot]
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, foot), (left, foot), (left, top)):
        page.mouse.move(x, y, steps=3)
    page.mouse.up()
    expect(page.locator(".lasso b")).to_have_text(f"{len(caught)} nodes")
    page.keyboard.type("upstairs")
    page.keyboard.press("Enter")
    expect(page.locator("#groups .label")).to_have_text("upstairs")
    expect(page.locator("#subgraph .block")).to_have_count(1)
    page.keyboard.press("u")
    expect(page.locator("#groups .label")).to_have_count(0)


def test_search_lists_what_fits(page: Page, circuits: Path) -> None:
    shown = file_says(circuits)
    opened(page)
    page.locator("#find").fill("E@")
    tokens = [one.id for one in shown.nodes if "E@" in one.id]
    expect(page.locator("#nodes h2 .quiet")).to_have_text(f"{len(tokens)} of {len(shown.nodes)}")
    page.get_by_role("button", name="Pin these").click()
    expect(page.locator("#subgraph .block")).to_have_count(len(tokens))
    page.locator("#find").fill("nothing is called so")
    expect(page.locator("#nodes")).to_contain_text("No shown node fits")
    assert state(page)["find"] == ["nothing is called so"]


def test_the_card_of_a_feature_stands_beside_it(page: Page, circuits: Path) -> None:
    chosen = strongest_feature(file_says(circuits))
    opened(page, f"?at={quoted(chosen)}")
    link = page.locator("#card h2 a")
    expect(link).not_to_be_empty()
    layer, feature = (int(number) for number in re.findall(r"\d+", chosen)[:2])
    index = FeatureIndex.open(Workspace(circuits).find("index", "layers"), circuits)
    assert link.get_attribute("href") == f"/s/layers/f/{index.feature(f'L{layer}.mlp_in', feature)}"
    link.click()
    expect(page.locator(".stepper b")).to_be_visible()
    page.go_back()
    expect(page.locator("#selected .code")).to_have_text(chosen)


def test_the_picture_can_be_taken_away(page: Page, circuits: Path, tmp_path: Path) -> None:
    shown = file_says(circuits)
    opened(page)
    with page.expect_download() as svg:
        page.get_by_role("button", name="SVG").click()
    svg.value.save_as(tmp_path / "graph.svg")
    text = (tmp_path / "graph.svg").read_text()
    features = sum(one.kind == "feature" for one in shown.nodes)
    assert text.startswith("<svg")
    assert text.count("<circle") == features
    with page.expect_download() as png:
        page.get_by_role("button", name="PNG").click()
    png.value.save_as(tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


def test_hostile_prompts_are_inert_also_in_the_exported_picture(page: Page, tmp_path: Path) -> None:
    opened(page, f"?find={quoted('<img')}", name=HOSTILE)
    expect(page.locator("h1")).to_contain_text(SCRIPT)
    assert page.locator(".graph img, .graph script").count() == 0
    with page.expect_download() as svg:
        page.get_by_role("button", name="SVG").click()
    svg.value.save_as(tmp_path / "graph.svg")
    assert not re.search(r"<(script|img)", (tmp_path / "graph.svg").read_text())
    assert page.locator("#nodes").inner_text()


@pytest.mark.parametrize("width", [1400, 700])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_in_both_schemes(page: Page, *, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    opened(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pixels = "document.querySelector('.picture canvas').getContext('2d').getImageData(0, 0, 400, 300).data"
    assert page.evaluate(f"[...{pixels}].filter((value, i) => i % 4 === 3 && value > 0).length") > 1000, "nothing is drawn"


def test_the_first_page_leads_to_graphs_and_errors_are_told(page: Page) -> None:
    page.goto("/")
    expect(page.locator(".graphs li")).to_have_count(len(PROMPTS))
    page.locator(".graphs a", has_text=PROMPTS[GRAPH]).click()
    expect(page.locator("h1")).to_have_text(PROMPTS[GRAPH])
    expect(page).to_have_url(re.compile(f"/g/{GRAPH}$"))
    page.goto("/g/nothing")
    expect(page.locator("[role=alert]")).to_contain_text("nothing")
    page.goto(f"/g/{GRAPH}?node=7")
    expect(page.locator("[role=alert] dt")).to_have_text(["got", "wanted", "do"])


def quoted(text: str) -> str:
    """As a part of an address."""
    return quote(text, safe="")


def test_with_many_nodes_hovering_redraws_only_what_is_hovered(page: Page) -> None:
    """5,000 nodes stay smooth because the ground is drawn once: a pointer's move costs the strokes of one node and its links."""
    view = many()
    page.route(f"**/api/graphs/{GRAPH}*", lambda route: route.fulfill(content_type="application/json", body=json.dumps(view)))
    page.add_init_script(
        """globalThis.strokes = new Map();
        const begin = CanvasRenderingContext2D.prototype.beginPath;
        CanvasRenderingContext2D.prototype.beginPath = function () {
            strokes.set(this.canvas, (strokes.get(this.canvas) ?? 0) + 1);
            return begin.call(this);
        };"""
    )
    opened(page)
    expect(page.locator("#nodes h2 .quiet")).to_have_text(f"{len(view['nodes']):,}")
    strokes = "[...document.querySelectorAll('.picture canvas')].map((canvas) => strokes.get(canvas) ?? 0)"
    page.wait_for_function(f"{strokes}[0] >= 5000")
    ground, marks = page.evaluate(strokes)
    box = page.locator(".picture").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 3 + 3)
    expect(page.locator(".hover")).to_contain_text("L")
    assert page.evaluate(strokes)[0] == ground
    assert 0 < page.evaluate(strokes)[1] - marks < 1000


def many() -> dict[str, Any]:
    """A view of 5,000 features and 30,000 edges."""
    nodes = [
        {"id": f"L{i // 200}.f{i}@{i % 20}", "kind": "feature", "layer": i // 200, "position": i % 20, "feature": i, "activation": 1.0}
        | {"influence": i / 5000, "label": "", "probability": None, "expanded": True}
        for i in range(5000)
    ]
    edges = [[i * 7 % 2500, 2500 + i * 13 % 2500, (-1) ** i * (1 + i % 97)] for i in range(30_000)]
    scores = {"replacement": 0.5, "completeness": 0.5, "error_share": 0.5, "untraced": 0.0, "balance": 0.0}
    facts = {"slug": GRAPH, "name": GRAPH, "prompt": "many", "model": "made up", "dictionaries": [], "tested": None}
    facts |= {"cards": {}, "has_densities": False}
    hidden = {"nodes": 0, "edges": 0, "influence": 0.0}
    rest = {"tokens": ["a"] * 20, "thresholds": {"node": 1, "edge": 1}, "scores": scores, "hidden": hidden, "reproduce": {"python": "", "shell": ""}}
    return {**facts, **rest, "nodes": nodes, "edges": edges}
