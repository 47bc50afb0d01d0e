"""The map of 65,536 features in Chromium without a GPU: from asking for the page to its points on the canvas, and how smoothly it is dragged about.

The index is that of `pages.py`, with its rows repeated; the places are planted (120 clouds and a haze), for it is drawing that is measured, not the
layout. First paint: from the navigation's start until the frame after the points were put on the canvas, the median of 5 loads of a fresh tab, the
server warm. Pan: the mouse drags for 4 seconds; frames that drew the points a second, whole and at 8 × where points are larger. Before the
clock: every point of the artifact is on the page. The mouse is moved from outside, a frame a move: on a busy machine the figure is the pace of the
moves (it says how many there were), a lower bound of what the page draws.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pages import WIDE, WORK, _index, _wide
from playwright.sync_api import Browser, Page
from rows import row, say, within

from microtome.artifacts import Draft, Workspace
from microtome.config import to_dict
from microtome.features import FeatureIndex
from microtome.features.arrays import write_arrays
from microtome.features.geometry import MapConfig, map_of
from microtome.features.geometry.naming import named, terms_of
from microtome.features.points import FILE
from microtome.web import create_app

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.web.chromium import chromium
from tests.web.serving import serving

CLOUDS = 120
LOADS = 5
DRAG_S = 4.0
_WATCH = """
const put = CanvasRenderingContext2D.prototype.putImageData;
window.drawn = [];
CanvasRenderingContext2D.prototype.putImageData = function (...rest) {
  put.apply(this, rest);
  window.drawn.push(performance.now());
  if (window.drawn.length === 1) requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }));
};
"""


def main() -> None:
    _index()
    wide = _wide()
    _plant(wide)
    with serving(create_app(WORK)) as base, chromium() as browser:
        paints = [_first_paint(browser, base) for _ in range(LOADS + 1)][1:]
        say(f"first paint, ms: {', '.join(f'{each:.0f}' for each in paints)}")
        within("map of 65,536 features: first paint, no GPU", float(np.median(paints)) / 1000, limit=1.0, unit="s", equal="every point of the file")
        for zoom, name in ((1, "whole"), (8, "at 8 times")):
            rate = _pan(browser, base, zoom)
            what = f"map of 65,536 features: pan, {name}, no GPU"
            row(what, ratio=rate / 50, bar=1.0, ours=round(rate, 1), peer=50.0, unit="frames/s", equal="every point of the file")


def _plant(index: FeatureIndex) -> None:
    """A map with clouds of points, as an artifact like any other."""
    place = Workspace(WORK).place("map", WIDE)
    if map_of(index.store) is not None:
        return
    draw = np.random.default_rng(0)
    features = np.flatnonzero(index.store.rows.numbers["count"] > 0).astype(np.int32)
    cluster = draw.integers(-CLOUDS // 3, CLOUDS, len(features)).clip(-1).astype(np.int32)
    middles = draw.uniform(-0.9, 0.9, (CLOUDS, 2))
    places = np.where(cluster[:, None] < 0, draw.uniform(-1, 1, (len(features), 2)), middles[cluster] + draw.normal(0, 0.025, (len(features), 2)))
    clusters = named(terms_of(index.store, features), places, cluster, seed=0)
    facts = {"neighbours_kept": 0.0, "by_chance": 0.0, "outside": float((cluster < 0).mean())}
    with Draft.open(place, "map", config=MapConfig(), inputs={"index": index.id}) as draft:
        with draft.place(FILE) as file:
            write_arrays(file, {"feature": features, "place": places.clip(-1, 1).astype(np.float32), "cluster": cluster})
        draft.write("clusters.json", json.dumps({"clusters": [to_dict(each) for each in clusters], "facts": facts}))
        draft.finish()


def _first_paint(browser: Browser, base: str) -> float:
    page = _page(browser)
    page.goto(f"{base}/s/{WIDE}/map")
    page.wait_for_function("window.painted !== undefined")
    found = float(page.evaluate("window.painted"))
    answer: dict[str, Any] = page.request.get(f"{base}/api/s/{WIDE}/map").json()
    assert f"{len(answer['features']):,} features" in page.locator(".title .quiet").inner_text()
    page.context.close()
    return found


def _pan(browser: Browser, base: str, zoom: int) -> float:
    """Frames a second that drew the points while the mouse drags."""
    page = _page(browser)
    page.goto(f"{base}/s/{WIDE}/map?at=0,0,{zoom}")
    page.wait_for_function("window.painted !== undefined")
    page.wait_for_timeout(500)
    box = page.locator(".atlas-stage").bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.evaluate("window.drawn = [0]")
    start, steps = time.perf_counter(), 0
    while (at := time.perf_counter() - start) < DRAG_S:
        page.mouse.move(middle[0] + 250 * np.sin(3 * at), middle[1] + 120 * np.sin(5 * at))
        steps += 1
    times = np.array(page.evaluate("window.drawn")[1:])
    page.mouse.up()
    gaps = np.diff(times)
    say(f"zoom {zoom}: {steps} moves, {len(times)} frames, gap median {np.median(gaps):.1f} ms, p95 {np.quantile(gaps, 0.95):.1f} ms")
    page.context.close()
    return float(1000 * len(gaps) / (times[-1] - times[0]))


def _page(browser: Browser) -> Page:
    page = browser.new_context(viewport={"width": 1400, "height": 900}, bypass_csp=True).new_page()
    page.add_init_script(_WATCH)
    return page


if __name__ == "__main__":
    main()
