"""The page of a direction: its JSON is the card that Python gives, and Chromium shows what was measured and what it does not show."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from microtome.artifacts import Workspace
from microtome.directions import Direction, Measured, direction_card, save_direction
from microtome.models import Model, Site
from microtome.stats import Result
from microtome.web import create_app
from tests.web.answers import said
from tests.web.chromium import CHROMIUM, EXPECTED, chromium, same_host, watched
from tests.web.serving import serving
from tests.web.small import INDEX, SCRIPT

NOTE = f"It shows no more than {SCRIPT} says."
MEASURED = Measured(
    results=(
        Result(name="auc", value=0.75, low=0.4, high=0.9, n=12, baselines={"shuffled": 0.6, "p": 0.5}),
        Result(name="length", value=0.1, n=8, unit="of mean length"),
    ),
    together=(Result(name="recognised", value=0.5, n=40, baselines={"chance": 0.1}),),
    notes=(NOTE,),
    raises=(" sea", "\n", SCRIPT),
    lowers=(" hill",),
    more={"losses": [0.5, 0.3, 0.25], "roles": [{"role": "pirate", "coordinate": -1.5}, {"role": SCRIPT, "coordinate": 2}], "dropped": 3},
)


@pytest.fixture(scope="module")
def directions(workspace: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small workspace's index with directions of its own, beside the others' workspace."""
    place = Workspace(tmp_path_factory.mktemp("directions"))
    for kind in ("corpus", "shards", "dictionary", "index"):
        to = place.place(kind, INDEX)
        to.parent.mkdir()
        to.symlink_to(Workspace(workspace).place(kind, INDEX))
    rows = model.unembed()
    for name, row, measured in (("sea", rows[40], MEASURED), ("lake", rows[40] + 0.5 * rows[41], None), ("foreign", rows[7], None)):
        fingerprint = "of-another" if name == "foreign" else model.fingerprint
        made = Direction(name=name, site=Site("resid_post", 1), vector=row, sign=f"towards {name}", model=fingerprint, provenance={"recipe": "probe"})
        if name == "sea":
            made = made.calibrated(made.project(torch.randn(200, made.width, generator=torch.Generator().manual_seed(0))), source="texts")
        save_direction(made, place.place("direction", name), measured=measured)
    return place


@pytest.fixture(scope="module")
def client(directions: Workspace) -> TestClient:
    return TestClient(create_app(directions.path), base_url="http://127.0.0.1")


def test_the_list_says_what_each_is(client: TestClient) -> None:
    entries = {entry["name"]: entry["summary"] for entry in client.get("/api/directions").json()["directions"]}
    assert set(entries) == {"sea", "lake", "foreign"}
    assert (entries["sea"]["sign"], entries["sea"]["recipe"], entries["sea"]["site"]) == ("towards sea", "probe", "L1.resid_post")


def test_the_json_is_the_card_and_its_lines_give_it(client: TestClient, directions: Workspace) -> None:
    answer = client.get("/api/directions/sea").json()
    card = direction_card(directions.find("direction", "sea"), workspace=directions)
    assert answer["card"] == said(card)
    assert [other.name for other in card.others] == ["lake"]
    assert answer["indexes"] == [INDEX]
    assert client.get("/api/directions/foreign").json()["indexes"] == []
    assert answer["steer"].endswith(f"--add sea=1 --workspace {directions.path}")
    names: dict[str, object] = {}
    exec(answer["reproduce"]["python"].replace("direction_card(workspace", "found = direction_card(workspace"), {}, names)
    assert names["found"] == card


@pytest.mark.parametrize(("name", "status"), [("ocean", 404), ("%2e%2e%2fsecret", 404), ("a" * 300, 422)])
def test_what_is_not_there_is_an_error_of_four_parts(client: TestClient, name: str, status: int) -> None:
    answer = client.get(f"/api/directions/{name}")
    assert answer.status_code == status
    assert answer.json()["do"]


def test_a_broken_one_is_listed_with_its_error_and_spares_the_others(directions: Workspace, tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    save_direction(Direction(name="a", site=Site("resid_post", 0), vector=torch.ones(4)), place.place("direction", "a"))
    save_direction(Direction(name="b", site=Site("resid_post", 0), vector=torch.ones(4)), place.place("direction", "b"))
    (place.place("direction", "b") / "manifest.json").write_text("{")
    client = TestClient(create_app(tmp_path), base_url="http://127.0.0.1")
    entries = {entry["name"]: entry for entry in client.get("/api/directions").json()["directions"]}
    assert entries["b"]["error"]["error"] == "ArtifactDamaged"
    assert client.get("/api/directions/a").json()["card"]["others"] == []


@pytest.fixture
def page(directions: Workspace) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with (
        serving(create_app(directions.path)) as address,
        chromium() as browser,
        watched(browser, address, inside=same_host(address), expected=EXPECTED) as page,
    ):
        yield page


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (700, "dark")])
def test_a_person_reads_what_it_shows_and_what_not(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/")
    page.get_by_role("link", name="sea", exact=True).click()
    expect(page.locator("h1")).to_have_text("sea")
    expect(page.locator("#notes")).to_contain_text(NOTE)
    expect(page.locator("#measured tbody tr")).to_have_count(2)
    expect(page.locator("#measured tbody tr").first).to_contain_text("0.4 – 0.9")
    expect(page.locator("#measured tbody tr").first).to_contain_text("shuffled 0.6")
    expect(page.locator("#together tbody tr")).to_have_count(1)
    expect(page.locator("#measured .whisker")).to_have_count(1)  # the length stands alone: it has no scale
    assert page.locator("#measured .whisker").first.locator(".beside").count() == 1  # p is no value of the figure
    expect(page.locator("#tokens .piece")).to_have_count(4)
    expect(page.locator("#calibration circle")).to_have_count(101)
    expect(page.locator("#more tbody tr")).to_have_count(2)
    expect(page.locator("#more")).to_contain_text("dropped")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator(".reproduce pre")).to_contain_text("direction_card(")
    page.get_by_role("link", name="lake").click()
    expect(page.locator("h1")).to_have_text("lake")
    expect(page.locator("main")).to_contain_text("saved without what was measured")
    page.get_by_role("link", name=INDEX).click()
    expect(page.locator(".edit-list")).to_contain_text("lake")


@pytest.mark.browser
def test_a_name_that_is_not_there_says_so(page: Page) -> None:
    page.goto("/directions/nothing")
    expect(page.locator(".error")).to_contain_text("nothing")
