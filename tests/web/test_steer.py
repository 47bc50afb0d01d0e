"""The steering page: its JSON is what `microtome.steering` gives, its errors are shown, and a person can steer with it in Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, Page, expect

from microtome.artifacts import Workspace
from microtome.dictionaries import Dictionary, DictionarySet, load_any
from microtome.directions import Direction, save_direction
from microtome.features import FeatureIndex
from microtome.models import Model, Site
from microtome.shapes import Tensor
from microtome.steering import Add, Bench, Clamp, Controls, Divergence, EditSet, Feature, Sampling, compare, raw, side_by_side, sweep, times_max
from tests.web.answers import WRITE, said
from tests.web.chromium import CHROMIUM, EXPECTED, chromium, same_host, watched
from tests.web.small import INDEX

HERE = f"/api/s/{INDEX}/steer"
TEXT = "the ship and the"


@pytest.fixture(scope="module")
def firing(index: FeatureIndex) -> int:
    """The number of a feature that fires."""
    return index.table(sort="density", descending=True, limit=1).rows[0].feature


@pytest.fixture(scope="module", autouse=True)
def north(workspace: Path, model: Model) -> Direction:
    """A direction of the workspace."""
    rows: Tensor = model.unembed()
    direction = Direction(name="north", site=Site("resid_post", 1), vector=3 * rows[40] / rows[40].norm(), model=model.fingerprint)
    save_direction(direction, Workspace(workspace).place("direction", "north"))
    return direction


@pytest.fixture(scope="module")
def edits(index: FeatureIndex, firing: int, north: Direction) -> EditSet:
    feature = Feature(dictionary=INDEX, index=firing, max_activation=index.card(firing).statistics.max)
    made = (Clamp(feature=feature, strength=times_max(5)), Add(component=north, strength=raw(2)))
    return EditSet(edits=made, on_conflict="sequence")


def opened(workspace: Path) -> Dictionary:
    dictionary = load_any(Workspace(workspace).find("dictionary", INDEX))
    assert not isinstance(dictionary, DictionarySet)
    return dictionary


def test_the_json_is_that_of_the_python_call(client: TestClient, *, workspace: Path, model: Model, edits: EditSet, firing: int) -> None:
    asked = {"text": TEXT, "edit": [f"clamp {firing}=5max", "add north=2"], "tokens": 6, "temperature": 1.0, "seed": 3}
    posted = client.post(HERE, json=asked, headers=WRITE).json()
    recipe = posted.pop("reproduce")
    dictionary = opened(workspace)
    sampling = Sampling(max_new_tokens=6, temperature=1.0, seed=3)
    both = compare(model, TEXT, edits=edits, sampling=sampling, dictionaries={INDEX: dictionary})
    assert posted == said(side_by_side(both))
    assert posted["tokens_edited"] > 0
    assert posted["unedited"]["text"] != posted["edited"]["text"]
    linked = client.get(HERE, params=asked).json()
    assert {name: linked[name] for name in posted} == posted
    names: dict[str, object] = {}
    exec(recipe["python"].replace(f"load({model.ref!r})", "MODEL").replace("side_by_side(", "found = side_by_side("), {"MODEL": model}, names)
    assert said(names["found"]) == posted


def test_doses_are_those_of_the_sweep(client: TestClient, *, workspace: Path, model: Model, edits: EditSet, firing: int) -> None:
    asked = {"text": TEXT, "edit": [f"clamp {firing}=5max", "add north=2"], "tokens": 4, "dose": [0, 1], "random": 1}
    answer = client.post(f"{HERE}/doses", json=asked, headers=WRITE).json()
    dictionary = opened(workspace)
    bench = Bench(model=model, prompts=[TEXT], sampling=Sampling(max_new_tokens=4), dictionaries={INDEX: dictionary})
    points = sweep(bench, edits, measure=Divergence(), doses=[0, 1], controls=Controls(random=1))
    assert answer["doses"] == said(points)
    assert answer["doses"][0]["effect"]["value"] == 0
    assert answer["doses"][1]["effect"]["value"] > 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"edit": []}, "QueryInvalid"),
        ({"edit": ["sing 3=5max"]}, "EditInvalid"),
        ({"edit": ["clamp 3"]}, "EditInvalid"),
        ({"edit": ["clamp 999999=5max"]}, "FeatureNotFound"),
        ({"edit": ["clamp north=5max"]}, "EditInvalid"),
        ({"edit": ["add south=1"]}, "ArtifactMissing"),
        ({"edit": ["add north=p25"]}, "StrengthUncalibrated"),
        ({"edit": ["add north=1"] * 17}, "QueryInvalid"),
        ({"text": ""}, "QueryInvalid"),
        ({"text": "a " * 3000}, "TokenOutOfRange"),
        ({"tokens": 10_000}, "QueryInvalid"),
        ({"temperature": -1}, "QueryInvalid"),
        ({"unknown": 1}, "QueryInvalid"),
    ],
)
def test_what_cannot_be_steered_is_said_in_four_parts(client: TestClient, change: dict[str, object], error: str) -> None:
    answer = client.post(HERE, json={"text": TEXT, "edit": ["add north=1"], "tokens": 4, **change}, headers=WRITE)
    assert (answer.status_code // 100, answer.json()["error"]) == (4, error)
    assert answer.json()["do"]


def test_parts_name_the_directions_and_the_dictionary(client: TestClient) -> None:
    parts = client.get(f"{HERE}/parts").json()
    assert (parts["dictionary"], parts["directions"]) == (INDEX, ["north"])
    assert client.post(HERE, json={"text": TEXT, "edit": ["add north=1"]}).status_code == 403  # a POST needs the header


@pytest.fixture
def page(served: str) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with chromium() as browser:
        yield from _watched(browser, served)


def _watched(browser: Browser, served: str) -> Iterator[Page]:
    with watched(browser, served, inside=same_host(served), expected=EXPECTED) as page:
        yield page


@pytest.mark.browser
def test_one_click_from_a_feature_to_two_answers(page: Page, firing: int) -> None:
    page.goto(f"/s/{INDEX}/f/{firing}?test=the+ship")
    page.get_by_role("link", name="Steer with it").click()
    expect(page.locator("#test-text")).to_have_value("the ship")
    expect(page.locator(".edit-list .amount")).to_contain_text("× its maximum")
    page.get_by_label("find a feature or a direction").fill("nor")
    page.get_by_label("add add north=1").click()
    expect(page.locator(".edit-list li")).to_have_count(2)
    page.get_by_label("tokens").fill("8")
    page.locator("#run").click()
    expect(page.locator("#answers .panel")).to_have_count(2)
    twin = page.request.get(str(page.locator("main > .reproduce .json").get_attribute("href"))).json()
    for side, panel in (("unedited", 0), ("edited", 1)):
        assert page.locator("#answers .panel").nth(panel).locator(".tk").count() == len(twin[side]["tokens"])
    assert page.locator("#answers .tk[class*=' a']").count() > 0  # tinted by KL
    expect(page.locator("main > .reproduce pre")).to_contain_text("side_by_side(compare(")
    page.locator("#measure-doses").click()
    expect(page.locator("#doses svg.curve")).to_have_count(2)
    expect(page.locator("#doses tbody tr")).to_have_count(5)
    page.reload()  # the address is the state, and it runs
    expect(page.locator("#answers .panel")).to_have_count(2)
    slider = page.get_by_label(f"how much of {firing}")
    slider.focus()
    slider.press("ArrowRight")
    expect(page.get_by_text("Changed since it ran.")).to_be_visible()
    page.get_by_label("take off add north=1").click()
    expect(page.locator(".edit-list li")).to_have_count(1)
    page.goto(f"/s/{INDEX}/steer?run=1&text=the&edits=add+south%3D1")
    expect(page.get_by_role("alert")).to_contain_text("south")
    for width in (1400, 700):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
