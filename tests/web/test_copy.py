"""A copy on a plain web host, in a folder below its root: the pages answer from files, and nothing of this machine is in it."""

import gzip
import json
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, Page, expect

from microtome.artifacts import Workspace
from microtome.features import FeatureIndex
from microtome.features.geometry import MapConfig, make_map
from microtome.web import write_copy
from tests.web.answers import asked
from tests.web.chromium import CHROMIUM, chromium, watched
from tests.web.small import D_DICT, EMOJI, INDEX, SCRIPT, records

HOSTILE = len(records()) - 2
MULTIBYTE = HOSTILE + 1
needs_chromium = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


class Quiet(SimpleHTTPRequestHandler):
    """What `python -m http.server` serves with, silent."""

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture(scope="module")
def copy(index: FeatureIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in a folder below the host's root, with every document."""
    out = tmp_path_factory.mktemp("host") / "some" / "folder"
    write_copy(index, out, documents=1000)
    return out


NOTE = "only for me"


@pytest.fixture(scope="module")
def private(copy: Path, workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside it a copy of three features of an index with a map, in which somebody has kept things, with what is kept."""
    place = tmp_path_factory.mktemp("elsewhere") / "workspace"
    shutil.copytree(workspace, place)
    index = FeatureIndex.open(Workspace(place).find("index", INDEX), Workspace(place))
    make_map(index, config=MapConfig(min_cluster=3))
    index.add_note(9, text=NOTE)
    index.change_list("sea words", add=[3, 9])
    index.set_verdict(3, verdict="partly")
    write_copy(index, copy.parent / "private", features=[9, 40, 3, 3], documents=2, kept=True)
    write_copy(index, place / "public", features=[9, 40, 3], documents=2)
    return place / "public"


@pytest.fixture(scope="module")
def hosted(copy: Path) -> Iterator[str]:
    host = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(copy.parents[1])))
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{host.server_port}/some/folder/"
    host.shutdown()
    host.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, hosted: str) -> Iterator[Page]:
    """A page that fails the test on any error of the console or a script, a dialog, or a request that leaves the folder."""

    def inside(url: str) -> bool:
        return url.startswith((hosted, hosted.replace("folder", "private"), "blob:")) or url.endswith("/favicon.ico")

    with watched(browser, hosted, inside=inside, expected="willReadFrequently") as page:
        yield page


def unpacked(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def test_the_files_hold_what_the_server_says_and_no_path_of_this_machine(copy: Path, index: FeatureIndex, workspace: Path) -> None:
    found = unpacked(copy / "data/cards/0.json.gz")["3"]
    card = index.card(3)
    assert found["label"]["text"] == card.label.text
    assert ["".join(window["pieces"]) for window in found["top"]] == ["".join(window.pieces) for window in card.top]
    assert [row["feature"] for row in unpacked(copy / "data/table/0.json.gz")] == list(range(D_DICT))
    for path in copy.rglob("*"):
        if path.is_file():
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert str(workspace).encode() not in raw, path
            assert b"NaN" not in raw or path.suffix == ".js"


def test_panels_answer_as_the_server_does(copy: Path, client: TestClient) -> None:
    found = unpacked(copy / "data/relations/0.json.gz")["3"]
    asking = {"links twera": "links?rank=twera&limit=8", "links era": "links?rank=era&limit=8", "alike": "alike?limit=8", "around": "around?limit=6"}
    asking |= {f"coactive {rank}": f"coactive?rank={rank}&limit=10" for rank in ("jaccard", "pmi", "count")} | {"suspects": "suspects?limit=8"}
    assert set(found) - {"effects"} == set(asking)  # it reads one site, and nothing was dreamt of it
    for name, url in asking.items():
        content = dict(found[name])
        assert "microtome-workspace" in content.pop("reproduce")["python"]
        assert content == asked(client, f"/api/s/{INDEX}/f/3/{url}"), name
    odd = unpacked(copy / "data/odd.json.gz")
    odd.pop("reproduce")
    assert odd == asked(client, f"/api/s/{INDEX}/odd")


def test_what_people_keep_is_in_it_only_when_it_is_asked_for(copy: Path, private: Path) -> None:
    def mentions(folder: Path) -> list[str]:
        raw = {path: gzip.decompress(path.read_bytes()) for path in folder.rglob("*.gz")}
        return sorted(path.name for path, content in raw.items() if NOTE.encode() in content or b"sea words" in content)

    assert mentions(private) == []
    assert not (private / "data/kept.json.gz").exists()
    assert mentions(copy.parent / "private") == ["0.json.gz", "0.json.gz", "1.json.gz", "kept.json.gz"]  # the table, two cards and the page


def test_some_features_some_documents_and_a_second_run(index: FeatureIndex, tmp_path: Path) -> None:
    made = write_copy(index, tmp_path / "part", features=[9, 3, 3], documents=2)
    assert write_copy(index, tmp_path / "part", features=[3, 9], documents=2).id == made.id
    site = unpacked(tmp_path / "part/data/site.json.gz")
    assert site["features"] == [3, 9]
    assert len(site["documents"]) == 2
    assert [sorted(unpacked(path)) for path in sorted((tmp_path / "part/data/cards").iterdir())] == [["3"], ["9"]]


@pytest.mark.parametrize("width", [1400, 700])
@pytest.mark.browser
@needs_chromium[1]
def test_every_page_loads_from_its_address(page: Page, hosted: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for path in ("/", *(f"/s/{INDEX}{rest}" for rest in ("", "/features", "/f/3", "/documents", "/d/2?rank=max&t=6"))):
        page.goto("about:blank")
        page.goto(f"{hosted}#{path}")
        expect(page.locator("h1")).not_to_be_empty()
        expect(page.locator(".reproduce pre").first).to_contain_text("microtome-workspace")
        expect(page.locator(".error:visible")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"
        for hidden in (".testbox", "#notes form", ".reproduce a.json", "a[href$='/search']"):
            assert not page.locator(hidden).first.is_visible(), f"{hidden} is shown on {path}"


@pytest.mark.browser
@needs_chromium[1]
def test_the_panels_of_a_feature_are_there(page: Page, hosted: str) -> None:
    page.goto(f"{hosted}#/s/{INDEX}/f/3")
    for panel in ("links", "coactive", "alike", "around", "suspects"):
        expect(page.locator(f"#{panel} .fold")).to_be_visible()
    page.locator("#coactive").get_by_role("button", name="PMI").click()
    expect(page.locator("#coactive [aria-pressed=true]")).to_have_text("PMI")
    expect(page.locator("#coactive .error")).to_have_count(0)
    for absent in ("#silenced", "#loss", "#dreams", ".steer-link", "#unopened", "a.json"):
        assert not page.locator(absent).first.is_visible(), absent
    assert set(page.locator("nav[aria-label=pages] a").all_inner_texts()) - {"Map"} == {INDEX, "Features", "Documents", "Odd"}


@pytest.mark.usefixtures("private")
@pytest.mark.browser
@needs_chromium[1]
def test_a_copy_of_some_features_leads_to_no_others_and_shows_what_is_kept(page: Page, hosted: str) -> None:
    here = f"{hosted.replace('folder', 'private')}#/s/{INDEX}"
    page.goto(here)
    expect(page.locator(".remark-line").first).to_have_text(re.compile(f"^This copy holds 3 of the {D_DICT} features"))
    page.get_by_role("link", name="Features").first.click()
    expect(page.locator("a.row .number")).to_have_text(["3", "9", "40"])
    page.locator("a.row").first.click()
    for step, feature in (("›", 9), ("›", 40), ("‹", 9), ("‹", 3)):
        page.locator(".stepper").get_by_role("link", name=step).click()
        expect(page.locator(".stepper b")).to_have_text(str(feature))
    assert page.locator(".stepper a").count() == 1
    page.get_by_role("button", name="random").click()
    expect(page.locator(".stepper b")).to_have_text(re.compile("^(3|9|40)$"))
    page.get_by_role("link", name="Kept").click()
    expect(page.locator(".kept-features")).to_contain_text(NOTE)
    page.locator("#lists").get_by_role("link", name="sea words").click()
    expect(page.locator("a.row .number")).to_have_text(["3", "9"])
    page.get_by_role("link", name="Map").click()
    expect(page.locator(".atlas-stage canvas").first).to_have_attribute("width", re.compile("[1-9]"))
    page.locator("#clusters button, #clusters a").first.click()
    expect(page.locator("#chosen")).to_be_visible()
    expect(page.locator(".to-list:visible")).to_have_count(0)
    page.get_by_role("link", name="in the table").click()
    expect(page.locator(".title .quiet")).to_contain_text("of 3")
    page.get_by_role("link", name="Odd").click()
    expect(page.locator("h1")).to_have_text("Odd features")
    expect(page.locator("a[data-absent]").first).to_be_visible()
    for place in ("odd", "f/3", "map", "documents"):
        page.goto(f"{here}/{place}")
        expect(page.locator(".reproduce pre").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        led = {int(found[1]) for link in page.locator("a[href*='/f/']").all() if (found := re.search(r"/f/(\d+)", link.get_attribute("href") or ""))}
        assert led <= {3, 9, 40}, place
    expect(page.locator(".error:visible")).to_have_count(0)


@pytest.mark.browser
@needs_chromium[1]
def test_a_walk_through_the_copy(page: Page, hosted: str, index: FeatureIndex) -> None:
    page.goto(hosted)
    page.locator(".cards h2 a").click()
    page.get_by_role("link", name="Features").first.click()
    page.get_by_role("columnheader", name="density").click()
    page.wait_for_function("document.querySelector('[aria-sort=descending]')")
    best = index.table(sort="density", descending=True, limit=5).rows
    expect(page.locator("a.row .number").first).to_have_text(str(best[0].feature))
    assert page.locator("a.row .number").all_inner_texts()[:5] == [str(row.feature) for row in best]
    page.locator("a.row").first.click()
    expect(page.locator("h1")).to_have_text(best[0].label)
    shown = page.locator("#examples .example .text").first.inner_text()
    assert shown.strip()[:10] in "".join(index.card(best[0].feature).top[0].pieces)
    page.locator("#examples a.source").first.click()
    expect(page.locator("#token li").first).to_be_visible()
    window = index.card(best[0].feature).top[0]
    answer = index.token(window.doc, offset=window.offset + window.peak)
    assert page.locator("#token .number").all_inner_texts() == [str(one.feature) for one in answer.features]
    page.go_back()
    expect(page.locator("h1")).to_have_text(best[0].label)
    page.reload()
    expect(page.locator("h1")).to_have_text(best[0].label)
    page.locator("a.brand").click()
    expect(page.locator("h1")).to_have_text("Workspace")


FILTERS = (
    "density > 12%",
    'label ~ "the" or f1 >= 0.5',
    "not (documents = 0) and entropy < 2",
    "token != 'x' and (count > 3 or max > 1)",
    "lift>=2 AND site = L1.resid_post",
)


@pytest.mark.browser
@needs_chromium[1]
def test_filters_and_searches_give_what_the_server_gives(page: Page, hosted: str, index: FeatureIndex) -> None:
    for filter in FILTERS:
        page.goto("about:blank")
        page.goto(f"{hosted}#/s/{INDEX}/features?" + "filter=" + re.sub("[^a-z]", lambda m: f"%{ord(m[0]):02X}", filter))
        wanted = index.table(filter=filter, limit=D_DICT)
        shown = f"{wanted.total}" if wanted.total == D_DICT else f"{wanted.total} of {D_DICT}"
        expect(page.locator(".title .quiet")).to_have_text(shown)
        if wanted.total:
            expect(page.locator("a.row .number").first).to_have_text(str(wanted.rows[0].feature))
    page.goto(f"{hosted}#/s/{INDEX}/features")
    page.fill("#filter", "densty > 1")
    expect(page.locator(".error")).to_contain_text('no column "densty"')
    page.fill("#filter", "")
    page.fill("#search-labels", "the")
    total = index.table(search="the", limit=D_DICT).total
    expect(page.locator(".title .quiet")).to_have_text(f"{total} of {D_DICT}")


@pytest.mark.browser
@needs_chromium[1]
def test_hostile_text_is_inert_and_multibyte_text_is_whole(page: Page, hosted: str) -> None:
    page.goto(f"{hosted}#/s/{INDEX}/d/{HOSTILE}")
    expect(page.locator("h1")).to_have_text(SCRIPT)
    expect(page.locator(".reading .body")).to_contain_text(f"{SCRIPT} the ship")
    assert page.locator(".reading img, .reading script, h1 img").count() == 0
    page.goto(f"{hosted}#/s/{INDEX}/d/{MULTIBYTE}")
    expect(page.locator(".reading .body")).to_contain_text(f"{EMOJI} {EMOJI}")
    page.goto(f"{hosted}#/s/{INDEX}/documents?search=onerror")
    expect(page.locator("td a")).to_have_text(SCRIPT)


@pytest.mark.browser
@needs_chromium[1]
def test_what_is_not_in_the_copy_says_so(page: Page, hosted: str) -> None:
    for path in (f"/s/{INDEX}/f/{D_DICT}", f"/s/{INDEX}/d/99999", "/s/another"):
        page.goto(f"{hosted}#{path}")
        expect(page.locator(".error")).to_contain_text("is not in this copy")
        expect(page.locator(".error")).to_contain_text("microtome serve")
