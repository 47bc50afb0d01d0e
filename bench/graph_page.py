"""Is the graph page smooth with 5,000 nodes? Times between frames in a real Chromium while the pointer moves over the picture, and while it scrolls.

The graph is made up: 5,000 features of 26 layers on 20 tokens, 29,000 edges that lead to later layers, two targets; it is saved, served and
shown whole. Needs Chromium and playwright. A display shows a frame every 16.7 ms; a software renderer on a busy CPU does not always keep up.

    python bench/graph_page.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser
from rows import say, within

from microtome.artifacts import Workspace
from microtome.circuits import Edges, Graph, Nodes
from microtome.web import create_app

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.web.chromium import chromium
from tests.web.serving import serving

N, LAYERS, TOKENS = 5_000, 26, 20
LIMIT_MS = 50.0
FRAMES = """async (act) => {
  const times = [];
  let going = true;
  const tick = (now) => { times.push(now); if (going) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  const box = document.querySelector(".picture");
  const rect = box.getBoundingClientRect();
  for (let i = 0; i < 120; i++) {
    if (act === "scroll") box.scrollTop = (i * 23) % Math.max(1, box.scrollHeight - box.clientHeight);
    else {
      const [x, y] = [60 + ((i * 37) % (rect.width - 80)), 20 + ((i * 53) % (rect.height - 60))];
      box.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: rect.left + x, clientY: rect.top + y }));
    }
    await new Promise(requestAnimationFrame);
  }
  going = false;
  return times.slice(1).map((time, i) => time - times[i]);
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made_up().save(Workspace(folder).place("graph", "many"))
        with serving(create_app(Path(folder))) as base, chromium() as browser:
            measure(browser, f"{base}/g/many?node=1&edge=1")


def measure(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(address)
    page.wait_for_selector(".graph[aria-busy=false] .picture canvas")
    shown = page.locator("#nodes h2 .quiet").inner_text()
    assert shown == f"{N + 2:,}", shown
    for act in ("hover", "scroll"):
        gaps = np.array(page.evaluate(FRAMES, act))
        say(f"{act}: {len(gaps)} frames, median {np.median(gaps):.1f} ms, 95 % {np.quantile(gaps, 0.95):.1f} ms, longest {gaps.max():.1f} ms")
        within(
            f"graph page of {N:,} nodes, {act}: time between frames, p95",
            float(np.quantile(gaps, 0.95)),
            limit=LIMIT_MS,
            unit="ms",
            equal="every node is on the page",
        )


def made_up() -> Graph:
    lot = np.random.default_rng(0)
    layer = np.sort(lot.integers(0, LAYERS, N))
    rows = np.concatenate([np.flatnonzero(layer > 0), [N, N + 1]])
    of = np.repeat(np.arange(len(rows) - 2), 4)
    before = np.searchsorted(layer, layer)[rows[of]]
    inner = of * (N + 2) + (lot.random(len(of)) * before).astype(np.int64)
    outer = (np.arange(len(rows) - 2, len(rows))[:, None] * (N + 2) + np.arange(N)).ravel()
    key = np.unique(np.concatenate([inner, outer]))
    weight = lot.normal(size=len(key)).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(key // (N + 2), minlength=len(rows)))]).astype(np.int64)
    nothing = np.zeros(len(rows), dtype=np.float32)
    return Graph(
        prompt="made up",
        tokens=tuple(range(TOKENS)),
        pieces=tuple(f" word{i}" for i in range(TOKENS)),
        model="none",
        model_fingerprint="",
        quantised=None,
        n_layers=LAYERS,
        dictionaries=(),
        nodes=Nodes(
            kind=np.array([3] * N + [4] * 2, dtype=np.int8),
            layer=np.append(layer, [LAYERS, LAYERS]).astype(np.int16),
            position=np.append(lot.integers(0, TOKENS, N), [TOKENS - 1, TOKENS - 1]).astype(np.int32),
            feature=np.arange(N + 2, dtype=np.int32),
            activation=np.ones(N + 2, dtype=np.float32),
        ),
        rows=rows.astype(np.int32),
        edges=Edges(indptr=indptr, source=(key % (N + 2)).astype(np.int32), weight=weight),
        dropped=nothing,
        dropped_abs=nothing,
        pre=(np.add.reduceat(np.append(weight, 0), indptr[:-1]) * (np.diff(indptr) > 0)).astype(np.float32),
        target_weight=np.array([0.6, 0.2], dtype=np.float32),
        target_labels=('logit." a"@19', 'logit." b"@19'),
    )


if __name__ == "__main__":
    main()
