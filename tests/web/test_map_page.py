"""The map in a real Chromium: what is drawn is what the file says, a lasso becomes a list, keys do what the sheet says."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from microtome.features import FeatureIndex
from microtome.features.geometry import MapConfig, make_map
from tests.web.chromium import CHROMIUM, chromium, same_host, watched
from tests.web.small import INDEX

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]
MAP, KEPT = f"/s/{INDEX}/map", f"/s/{INDEX}/kept"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, served: str, index: FeatureIndex) -> Iterator[Page]:
    make_map(index, config=MapConfig(min_cluster=3))
    with watched(browser, served, inside=same_host(served), expected="willReadFrequently") as page:
        yield page


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def view(page: Page) -> Any:
    return page.request.get(f"/api{MAP}").json()


def opened(page: Page, path: str = MAP) -> dict[str, float]:
    """The stage's box on the page, once it is drawn."""
    page.goto(path)
    expect(page.locator(".atlas-stage canvas").first).to_have_attribute("width", re.compile("[1-9]"))
    page.wait_for_timeout(80)
    box = page.locator(".atlas-stage").bounding_box()
    assert box is not None
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}


def spot(box: dict[str, float], told: Any, *, x: float, y: float) -> tuple[float, float]:
    """Where a place of the whole map is on the page: inside of its border, as large as fits."""
    width, height = box["width"] - 2, box["height"] - 2
    scale = 0.47 * min(width / max(map(abs, told["x"])), height / max(map(abs, told["y"])))
    return box["x"] + 1 + width / 2 + x * scale, box["y"] + 1 + height / 2 - y * scale


def test_the_map_fits_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 700, "height": 900})
    opened(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_point_is_where_the_file_says(page: Page) -> None:
    box = opened(page)
    told = view(page)
    ground = page.evaluate("[...document.querySelector('.atlas-stage canvas').getContext('2d').getImageData(1, 1, 1, 1).data]")
    places = [
        [a - b - 1 for a, b in zip(spot(box, told, x=x, y=y), (box["x"], box["y"]), strict=True)] for x, y in zip(told["x"], told["y"], strict=True)
    ]
    read = "(all) => { const ink = document.querySelector('.atlas-stage canvas').getContext('2d');"
    read += " return all.map(([x, y]) => [...ink.getImageData(Math.round(x) - 1, Math.round(y) - 1, 1, 1).data]); }"
    drawn = page.evaluate(read, places)
    assert all(pixel != ground for pixel in drawn)
    assert f"{len(told['features'])} features" in page.locator(".title .quiet").inner_text()


def test_pointing_names_a_feature_and_a_click_opens_it(page: Page) -> None:
    box = opened(page)
    told = view(page)
    at = spot(box, told, x=told["x"][0], y=told["y"][0])
    page.mouse.move(*at)
    label = page.request.get(f"/api/s/{INDEX}/features?filter=feature+%3D+{told['features'][0]}").json()["rows"][0]["label"]
    expect(page.locator(".atlas-tip")).to_contain_text(str(told["features"][0]))
    expect(page.locator(".atlas-tip")).to_contain_text(label)
    page.mouse.click(*at)
    expect(page.locator("h1")).to_have_text(label)
    assert urlsplit(page.url).path == f"/s/{INDEX}/f/{told['features'][0]}"


def test_a_lasso_becomes_a_list_that_filters_the_table(page: Page) -> None:
    box = opened(page)
    told = view(page)
    page.get_by_role("button", name="Lasso").click()
    wide, high = 1.02 * max(map(abs, told["x"])), 1.02 * max(map(abs, told["y"]))
    corners = [(-wide, 0.0), (-wide, high), (wide, high), (wide, 0.0)]
    page.mouse.move(*spot(box, told, x=corners[0][0], y=corners[0][1]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*spot(box, told, x=corner[0], y=corner[1]), steps=3)
    page.mouse.up()
    upper = [feature for feature, y in zip(told["features"], told["y"], strict=True) if y > 0]
    expect(page.locator("#chosen h2")).to_contain_text(str(len(upper)))
    expect(page.locator("#chosen ol li")).to_have_count(12)
    page.locator("#more-chosen").click()
    expect(page.locator("#chosen ol .number")).to_have_text([str(feature) for feature in upper])
    expect(page.locator("#more-chosen")).to_have_count(0)
    page.fill("#chosen input", "upper half")
    page.locator("#chosen button").click()
    expect(page.locator("#chosen [role=status]")).to_contain_text("upper half")
    lists = {each["name"]: each["features"] for each in page.request.get(f"/api{KEPT}").json()["lists"]}
    assert lists["upper half"] == upper
    page.locator("#chosen [role=status] a").click()
    expect(page.locator(".title .quiet")).to_contain_text(f"{len(upper)} of")
    opened(page, f"{MAP}?list=upper+half")
    expect(page.locator(".title .quiet")).to_contain_text(f"{len(upper)} of")
    page.goto(KEPT)
    page.get_by_role("button", name="remove the list upper half").click()
    expect(page.locator("main")).not_to_contain_text("upper half")


def test_keys_move_zoom_and_go_through_the_clusters(page: Page) -> None:
    opened(page)
    told = view(page)
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/map?at=*")
    x, _, zoom = map(float, query(page)["at"][0].split(","))
    assert zoom == pytest.approx(1.5, abs=0.01)
    assert x > 0
    page.reload()
    expect(page.locator(".atlas-stage canvas").first).to_have_attribute("width", re.compile("[1-9]"))
    assert query(page)["at"], "the address is the state"
    page.keyboard.press("0")
    page.keyboard.press("c")
    expect(page.locator(".atlas-list li.on")).to_have_count(1)
    assert query(page)["cluster"] == ["0"]
    expect(page.locator(".title .quiet")).to_contain_text(f"{told['clusters'][0]['size']} of")
    page.keyboard.press("Escape")
    expect(page.locator(".atlas-list li.on")).to_have_count(0)
    assert "cluster" not in query(page)


def test_a_verdict_and_a_list_on_the_feature_page(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/6")
    page.get_by_role("button", name="partly").click()
    expect(page.get_by_role("button", name="partly")).to_have_attribute("aria-pressed", "true")
    page.locator("#notes input[aria-label=list]").fill("mine")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#notes .tag")).to_contain_text("mine")
    page.goto(KEPT)
    expect(page.locator(".kept-features")).to_contain_text("partly")
    page.goto(f"/s/{INDEX}/f/6")
    page.get_by_role("button", name="off the list mine").click()
    expect(page.locator("#notes .tag")).to_have_count(0)
    page.get_by_role("button", name="partly").click()
    expect(page.get_by_role("button", name="partly")).to_have_attribute("aria-pressed", "false")
