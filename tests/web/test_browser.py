"""The pages in a real Chromium: they load without errors or foreign requests, and do what a person asks of them."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from microtome.features import suspects
from microtome.web import create_app
from microtome.web.api_texts import MAX_TEXT_CHARS
from tests.web.chromium import CHROMIUM, EXPECTED, chromium, same_host, watched
from tests.web.serving import serving
from tests.web.small import D_DICT, EMOJI, INDEX, SCRIPT, records

HOSTILE = len(records()) - 2
MULTIBYTE = HOSTILE + 1
PROMPTS = "plus=the+ship%0Awave+sail&minus=the+bread%0Asalt+oven"
WAYS = (f"/search?by=prompts&{PROMPTS}", f"/search?by=sets&{PROMPTS}", "/search?by=token&token=the")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, served: str) -> Iterator[Page]:
    """A page that fails the test on any console error, script error, dialog or request that leaves the server."""
    with watched(browser, served, inside=same_host(served), expected=EXPECTED) as page:
        yield page


def here(page: Page) -> str:
    parts = urlsplit(page.url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (700, "dark")])
def test_every_page_loads_and_links_its_json_and_python(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    rests = ("", "/features", "/f/3", "/documents", "/d/2", "/search?text=the+ship", *WAYS, "/odd", "/map", "/kept")
    for path in ("/", *(f"/s/{INDEX}{rest}" for rest in rests)):
        page.goto(path)
        expect(page.locator("h1")).not_to_be_empty()
        expect(page.locator(".reproduce pre")).to_contain_text("Workspace(")
        twin = page.locator(".reproduce .json").get_attribute("href")
        assert twin is not None
        assert page.request.get(twin).json()["reproduce"]["python"] == page.locator(".reproduce pre").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"


def test_hostile_text_is_inert_and_multibyte_text_is_whole(page: Page) -> None:
    page.goto(f"/s/{INDEX}/d/{HOSTILE}")
    expect(page.locator("h1")).to_have_text(SCRIPT)
    expect(page.locator(".reading .body")).to_contain_text(f"{SCRIPT} the ship")
    assert page.locator(".reading img, .reading script, h1 img").count() == 0
    page.goto(f"/s/{INDEX}/d/{MULTIBYTE}")
    expect(page.locator(".reading .body")).to_contain_text(f"{EMOJI} {EMOJI}")
    page.goto(f"/s/{INDEX}/documents?search=onerror")
    expect(page.locator("td a")).to_have_text(SCRIPT)


def test_a_token_shows_its_features_and_a_feature_is_painted(page: Page) -> None:
    page.goto(f"/s/{INDEX}/d/2")
    page.locator(".reading .tk").nth(6).click()
    expect(page.locator("#token li").first).to_be_visible()
    assert "t=6" in here(page)
    answer = page.request.get(f"/api/s/{INDEX}/d/2/t/6").json()
    numbers = [int(text) for text in page.locator("#token .number").all_inner_texts()]
    assert numbers == [one["feature"] for one in answer["features"]]

    page.locator("#token summary").click()
    expect(page.locator("#token pre")).to_contain_text("index.token(2, offset=6)")
    page.locator("#token li button").first.click()
    expect(page.locator(".legend")).to_contain_text(str(numbers[0]))
    view = page.request.get(f"/api/s/{INDEX}/d/2?feature={numbers[0]}").json()
    fires = next(one["offsets"] for one in view["features"] if one["feature"] == numbers[0])
    expect(page.locator(".reading .tk[class*=' a']")).to_have_count(len(fires))
    painted = page.locator(".reading .tk[class*=' a']").evaluate_all("all => all.map(one => Number(one.dataset.i))")
    assert painted == fires
    page.reload()
    expect(page.locator(".legend")).to_contain_text(str(numbers[0]))
    page.keyboard.press("Escape")
    expect(page.locator("#token")).to_have_count(0)


def test_the_table_sorts_filters_and_searches_in_the_address(page: Page) -> None:
    page.goto(f"/s/{INDEX}/features")
    expect(page.locator("a.row").first).to_be_visible()
    page.get_by_role("columnheader", name="density").click()
    page.wait_for_function("document.querySelector('[aria-sort=descending]')")
    best = page.request.get(f"/api/s/{INDEX}/features?sort=density&descending=true&limit=3").json()["rows"]
    expect(page.locator("a.row .number").first).to_have_text(str(best[0]["feature"]))
    page.fill("#filter", "density > 12%")
    wanted = page.request.get(f"/api/s/{INDEX}/features", params={"filter": "density > 12%"}).json()["total"]
    expect(page.locator(".title .quiet")).to_have_text(f"{wanted} of {D_DICT}")
    assert "filter=density" in here(page)
    page.fill("#filter", "densty > 12%")
    expect(page.locator("[role=alert]")).to_contain_text('Did you mean "density"?')
    page.fill("#filter", "density > 2")
    expect(page.locator(".empty")).to_be_visible()
    page.locator(".empty button").click()
    expect(page.locator("a.row").first).to_be_visible()


def test_the_table_draws_few_rows_and_fetches_as_it_scrolls(page: Page) -> None:
    page.route(f"**/api/s/{INDEX}/features**", many_rows)
    page.goto(f"/s/{INDEX}/features")
    expect(page.locator("a.row").first).to_be_visible()
    assert page.locator("a.row").count() < 80
    page.evaluate("scrollTo(0, 32 * 60000)")
    expect(page.locator("a.row .number", has_text="60003")).to_be_visible()
    assert page.locator("a.row").count() < 80


def many_rows(route: Route) -> None:
    """What the server would say of an index of 65,536 features."""
    query = parse_qs(urlsplit(route.request.url).query)
    offset = int(query.get("offset", ["0"])[0])
    blank = {"label": "x", "origin": "rule", "rule_kind": "token", "token": "a", "top_logit": "b", "corpus_label": ""}
    numbers = dict.fromkeys(("f1", "density", "max", "mean", "entropy", "cosine", "lift"), 0.5)
    rows = [{"feature": i, "documents": 3, **blank, **numbers} for i in range(offset, min(offset + 100, 65_536))]
    answer = {"rows": rows, "total": 65_536, "n_features": 65_536, "reproduce": {"python": "", "shell": ""}}
    route.fulfill(content_type="application/json", body=json.dumps(answer))


def test_rows_that_failed_to_load_can_be_asked_for_again(page: Page) -> None:
    answers = {"down": True}

    def sometimes(route: Route) -> None:
        many_rows(route) if not answers["down"] else route.fulfill(status=400, content_type="application/json", body=json.dumps(FAILED))

    page.route(f"**/api/s/{INDEX}/features**", sometimes)
    page.goto(f"/s/{INDEX}/features")
    expect(page.locator("[role=alert]")).to_contain_text("The cable is cut")
    answers["down"] = False
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("a.row .number").first).to_have_text("0")
    answers["down"] = True
    page.evaluate("scrollTo(0, 32 * 60000)")
    in_view = page.locator("[role=row][aria-rowindex='60010']").get_by_role("button", name="Try again")
    expect(in_view).to_be_visible()
    expect(page.locator("[role=row]", has_text="…")).to_have_count(0)
    answers["down"] = False
    in_view.click()
    expect(page.locator("a.row .number", has_text="60003")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


FAILED = {"error": "ServerFailed", "what": "the cable is cut.", "got": None, "wanted": None, "do": "Mend it."}


def test_a_link_to_a_late_token_opens_its_stretch(page: Page) -> None:
    asked: list[str] = []
    view = page.request.get(f"/api/s/{INDEX}/d/2").json()

    def late(route: Route) -> None:
        asked.extend(parse_qs(urlsplit(route.request.url).query).get("offset", ["0"]))
        shifted = {**view, "offset": 4096, "n_tokens": 9000, "turns": [], "features": []}
        route.fulfill(content_type="application/json", body=json.dumps(shifted))

    page.route(re.compile(rf"/api/s/{INDEX}/d/2\?"), late)
    page.route(f"**/api/s/{INDEX}/d/2/t/**", lambda route: route.fulfill(status=404, content_type="application/json", body=json.dumps(FAILED)))
    page.goto(f"/s/{INDEX}/d/2?f=3&t=4099")
    expect(page.locator(".reading .picked")).to_have_attribute("data-i", "3")
    page.keyboard.press("Escape")
    expect(page.locator(".reading .picked")).to_have_count(0)
    expect(page.locator(".pager")).to_contain_text("tokens 4,096 to")
    assert set(asked) == {"4096"}


@pytest.mark.parametrize("name", ["a+b", "a & b = c, 50% #1?"])
def test_an_index_may_have_any_name(browser: Browser, workspace: Path, tmp_path: Path, *, name: str) -> None:
    shutil.copytree(workspace, tmp_path / "copy")
    (tmp_path / "copy" / "indexes" / INDEX).rename(tmp_path / "copy" / "indexes" / name)
    with serving(create_app(tmp_path / "copy")) as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.locator("h1")).to_have_text(name)
        for tab, heading in (("Features", "Features"), ("Documents", "Documents")):
            page.get_by_role("navigation").get_by_role("link", name=tab, exact=True).click()
            expect(page.locator("h1")).to_have_text(heading)
            expect(page.locator("[aria-current=page]")).to_have_text(tab)
            expect(page.locator(".reproduce pre")).to_contain_text(repr(name))
        page.reload()
        page.locator("td a").first.click()
        expect(page.locator(".reading .tk").first).to_be_visible()
        expect(page.locator("[role=alert]")).to_have_count(0)
        page.close()


def test_the_last_document_and_the_last_feature_have_no_next(page: Page) -> None:
    last = len(records()) - 1
    page.goto(f"/s/{INDEX}/d/{last - 1}")
    expect(page.locator("h1")).to_have_text(SCRIPT)
    page.wait_for_load_state("networkidle")
    for _ in range(3):
        page.keyboard.press("j")
        expect(page.locator("h1")).to_have_text(EMOJI)
    page.goto(f"/s/{INDEX}/f/{D_DICT - 1}")
    expect(page.locator(".stepper b")).to_have_text(str(D_DICT - 1))
    page.keyboard.press("j")
    assert here(page) == f"/s/{INDEX}/f/{D_DICT - 1}"


def test_any_text_can_be_tested_and_the_address_keeps_it(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/3")
    expect(page.locator(".stepper b")).to_have_text("3")
    page.keyboard.press("t")
    page.keyboard.type("butter " + EMOJI)
    page.keyboard.press("Enter")
    expect(page.locator(".answer .strip")).to_have_text("butter " + EMOJI)
    expect(page.locator(".verdict")).not_to_be_empty()
    assert "test=butter" in here(page)
    page.locator("#test summary").click()
    expect(page.locator("#test pre")).to_contain_text(f"index.test(model, 3, text='butter {EMOJI}')")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator(".stepper b")).to_have_text("4")
    assert "test=butter" in here(page)
    expect(page.locator(".answer .strip")).to_have_text("butter " + EMOJI)


def test_a_long_text_is_taken_whole_or_refused(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/3")
    page.locator("#test-text").fill("🦊" * MAX_TEXT_CHARS)
    expect(page.locator("#test .flag")).to_have_count(0)
    page.locator("#test-text").fill("the ship " * 3000)
    expect(page.locator("#test .flag")).to_contain_text("27,000 characters: at most 20,000")
    expect(page.locator("#test button.main")).to_be_disabled()
    prompts = [f"the ship {'and the storm ' * 8}{i}" for i in range(30)]
    page.locator("#test-text").fill("\n".join(prompts))
    page.locator("#test button.main").click()
    expect(page.locator(".prompts tbody tr")).to_have_count(len(prompts))
    page.reload()
    expect(page.locator("#test-text")).to_have_value("\n".join(prompts))
    page.locator("#test summary").click()
    twin = page.locator("#test .json").get_attribute("href")
    assert twin is not None
    assert page.request.get(twin).ok


def test_two_sets_need_two_texts_on_each_side_and_links_hold_whole_prompts(page: Page) -> None:
    page.goto(f"/s/{INDEX}/search?by=sets&plus=the+ship&minus=the+bread")
    expect(page.locator(".testbox .note")).to_contain_text("two texts or more")
    expect(page.locator(".testbox button.main")).to_be_disabled()
    ships, breads = ([f"the {word} {'and the storm ' * 8}{i}" for i in range(90)] for word in ("ship", "bread"))
    page.locator("#test-text").fill("\n".join(ships))
    page.locator("#minus-text").fill("\n".join(breads))
    expect(page.locator(".testbox .note")).not_to_contain_text("two texts or more")
    page.locator(".testbox button.main").click()
    expect(page.locator(".plain-table a").first).to_be_visible(timeout=60_000)
    link = page.locator(".plain-table a").first.get_attribute("href")
    taken = parse_qs(urlsplit(link or "").query)["test"][0].split("\n")
    assert len(ships) < len(taken) < len(ships + breads)
    assert taken == (ships + breads)[: len(taken)]


def test_each_line_of_the_box_is_a_prompt_unless_it_is_one_text(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/3?test=the+ship%0Athe+bread+{SCRIPT.replace('<', '%3C').replace('>', '%3E')}")
    expect(page.locator(".prompts tbody tr")).to_have_count(2)
    expect(page.locator(".prompts tbody .strip").nth(1)).to_contain_text(SCRIPT)
    page.locator(".tick input").click()
    expect(page.locator(".prompts")).to_have_count(0)
    expect(page.locator(".answer .strip-line")).to_be_visible()
    assert "whole=1" in here(page)


def test_features_are_found_by_prompts_by_sets_and_by_a_token(page: Page) -> None:
    page.goto(f"/s/{INDEX}/search")
    page.locator(".ways button", has_text="prompts").click()
    page.locator("#test-text").fill("the ship and the storm\nwave sail harbour")
    page.locator("#minus-text").fill("the bread and the knife\nsalt oven butter")
    page.locator(".testbox button.main").click()
    expect(page.locator(".bar-head h2")).to_contain_text("features")
    page.locator(".ways button", has_text="two sets").click()
    expect(page.locator(".bar-head h2")).to_contain_text("tell them apart")
    assert "by=sets" in here(page)
    page.locator(".ways button", has_text="a token").click()
    page.locator("#test-text").fill("the")
    page.keyboard.press("Enter")
    expect(page.locator(".bar-head h2")).to_contain_text("fire on it")


def test_every_token_of_a_found_text_says_its_share_of_the_maximum(page: Page) -> None:
    text = "the ship and the sail and the harbour and the storm"
    page.goto(f"/s/{INDEX}/search?text={text.replace(' ', '+')}&rank=count")
    hit = page.request.get(f"/api/s/{INDEX}/search", params={"text": text, "rank": "count"}).json()["hits"][0]
    expect(page.locator(".testbox .note")).to_contain_text(f"feature {hit['feature']}")
    tokens = page.locator(".strip-line .tk")
    firing = [i for i, activation in enumerate(hit["activations"]) if activation > 0]
    silent = next(i for i, activation in enumerate(hit["activations"]) if activation == 0)
    weaker = next(i for i in firing if hit["activations"][i] < hit["max"])
    for i in firing:
        share = 100 * hit["share_of_max"] * hit["activations"][i] / hit["max"]
        said = re.search(r"([\d.]+) % of max$", tokens.nth(i).get_attribute("data-tip") or "")
        assert said is not None
        assert float(said[1]) == pytest.approx(share, rel=0.05)
    tokens.nth(weaker).hover()
    expect(page.locator(".tip")).to_have_text(tokens.nth(weaker).get_attribute("data-tip") or "no tip")
    assert tokens.nth(silent).get_attribute("data-tip") is None


def test_a_busy_model_is_asked_again_and_a_step_further_asks_once(page: Page) -> None:
    asked: list[str] = []

    def busy_once(route: Route) -> None:
        asked.append(urlsplit(route.request.url).path)
        parts = {"error": "ModelBusy", "what": "too many questions.", "got": None, "wanted": None, "do": "Ask again."}
        route.fulfill(status=503, content_type="application/json", body=json.dumps(parts)) if len(asked) == 1 else route.continue_()

    page.route("**/test", busy_once)
    page.goto(f"/s/{INDEX}/f/3?test=the+ship")
    expect(page.locator(".answer .strip")).to_have_text("the ship")
    assert asked == [f"/api/s/{INDEX}/f/3/test"] * 2
    page.evaluate("for (const key of 'jjjj') dispatchEvent(new KeyboardEvent('keydown', { key }))")
    expect(page.locator(".stepper b")).not_to_have_text("3")
    expect(page.locator(".wait")).to_have_count(0)
    expect(page.locator(".answer .strip")).to_have_text("the ship")
    assert len(asked) == 3


def test_examples_of_one_part_of_the_corpus(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/3")
    page.get_by_label("part of the corpus").select_option("split:train")
    expect(page.locator(".group h3").first).to_contain_text("Strongest in train")
    assert "in=split" in here(page)
    page.get_by_role("button", name="Weakest slice").click()
    expect(page.locator(".group")).to_have_count(1)


def test_a_feature_asks_for_its_links_relations_and_effect(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/3")
    for name in ("effects", "links", "around", "coactive", "alike", "suspects", "loss"):
        expect(page.locator(f"#{name} .loading")).to_have_count(0)
        expect(page.locator(f"#{name} .error")).to_have_count(0)
        expect(page.locator(f"#{name} .fold")).to_have_count(1)
    expect(page.locator("#loss")).to_contain_text(f"microtome index {INDEX} --losses --workspace ")
    expect(page.locator("#effects .note")).to_contain_text(f"microtome index {INDEX} --effects 200 --workspace ")
    expect(page.locator("#suspects")).to_contain_text(f"cosine of at least {suspects.COSINE}")
    expect(page.locator("#suspects")).to_contain_text(f"strength is at least {suspects.STRENGTH}")
    threshold = page.request.get(f"/api/s/{INDEX}/f/3").json()["rule"]["threshold"]
    expect(page.locator(".origin")).to_contain_text(f"only activations above {threshold:.3g} count")
    expect(page.locator("#alike table").first.locator("tbody tr")).to_have_count(8)
    page.locator("#coactive .choice button", has_text="PMI").click()
    expect(page).to_have_url(re.compile("together=pmi"))
    page.locator("#alike tbody a").first.click()
    expect(page).to_have_url(re.compile(rf"/s/{INDEX}/f/\d+\?.*together=pmi|/s/{INDEX}/f/\d+"))
    page.goto(f"/s/{INDEX}/f/3")
    page.locator("#measure").click()
    expect(page.locator("#effects")).to_contain_text("KL divergence", timeout=60_000)
    expect(page.locator("#effects .change")).to_have_count(2)
    page.locator("#effects .fold summary").click()
    expect(page.locator("#effects .reproduce pre")).to_contain_text("index.effects(3)")


def test_the_same_feature_is_looked_for_where_it_can_be(page: Page, *, browser: Browser, workspace: Path, tmp_path: Path) -> None:
    page.goto(f"/s/{INDEX}/f/3")
    expect(page.locator("#matches")).to_contain_text("no other index")
    expect(page.locator("#elsewhere")).to_have_count(0)
    shutil.copytree(workspace, tmp_path / "copy")
    shutil.copytree(tmp_path / "copy" / "indexes" / INDEX, tmp_path / "copy" / "indexes" / "second")
    with serving(create_app(tmp_path / "copy")) as address, watched(browser, address, inside=same_host(address)) as other:
        other.goto(f"/s/{INDEX}/f/3")
        expect(other.locator("#elsewhere option")).to_have_text(["second"])
        expect(other.locator("#matches .fold")).to_have_count(1)
        other.locator("#matches summary").click()
        expect(other.locator("#matches pre")).to_contain_text("'second'")


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/3")
    expect(page.locator(".stepper b")).to_have_text("3")
    for key, number in (("j", "4"), ("ArrowRight", "5"), ("k", "4"), ("ArrowLeft", "3")):
        page.keyboard.press(key)
        expect(page.locator(".stepper b")).to_have_text(number)
    page.go_back()
    expect(page.locator(".stepper b")).to_have_text("4")
    page.keyboard.press("?")
    expect(page.locator("dialog.help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.help")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("77")
    page.keyboard.press("Enter")
    expect(page.locator(".stepper b")).to_have_text("77")
    page.keyboard.press("f")
    expect(page.locator("h1")).to_have_text("Features")
    page.keyboard.press("o")
    expect(page.locator("h1")).to_have_text(INDEX)


def test_dark_is_followed_chosen_and_remembered(page: Page) -> None:
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.goto("/")
    light = ground()
    page.emulate_media(color_scheme="dark")
    dark = ground()
    assert light != dark
    page.emulate_media(color_scheme="light")
    page.keyboard.press("d")
    assert ground() == dark
    page.reload()
    assert ground() == dark


def test_errors_are_shown_in_their_four_parts(page: Page) -> None:
    page.goto(f"/s/{INDEX}/f/{D_DICT}")
    expect(page.locator("[role=alert]")).to_contain_text(f"has no feature {D_DICT}")
    expect(page.locator("[role=alert] dt")).to_have_text(["got", "wanted", "do"])
    expect(page.locator("[role=alert]")).not_to_contain_text("docs/")
    page.goto("/s/nothing")
    expect(page.locator("[role=alert]")).to_contain_text(INDEX)
    page.goto("/no/such/page")
    expect(page.locator("[role=alert]")).to_contain_text("nothing at this address")


def test_an_empty_workspace_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    with serving(create_app(tmp_path)) as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator(".empty")).to_contain_text("microtome demo")
        page.close()
