"""The report: one file that asks for nothing, shows its sources, and takes no markup from text of others."""

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import pytest

from microtome.artifacts import Workspace
from microtome.costs import Cost
from microtome.features import Card, FeatureIndex
from microtome.stats import Result
from microtome.steering import Dose, DoseCurve
from microtome.web import write_report
from microtome.web.report_content import gather, strongest
from microtome.web.report_parts import render

COSTS = (Cost(step="harvest", seconds=12.0, amount=24_000, unit="tokens", bytes_written=5_000_000, peak_memory_bytes=1_200_000_000),)
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Structure(HTMLParser):
    """Collects elements and checks that every one of them is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def report(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(Workspace(workspace), out, costs=COSTS, commands=("microtome demo",), n_cards=8) == out
    return out.read_text()


@pytest.fixture(scope="module")
def structure(report: str) -> Structure:
    parser = Structure()
    parser.feed(report)
    parser.close()
    return parser


def test_every_element_is_closed_and_there_are_pictures(structure: Structure) -> None:
    assert structure.open == []
    names = [name for name, _ in structure.seen]
    assert names.count("svg") >= 3
    assert names.count("rect") > 10


def test_it_asks_for_nothing_and_runs_nothing(report: str, structure: Structure) -> None:
    assert not {"script", "link", "img", "iframe", "object", "form"} & {name for name, _ in structure.seen}
    assert not [value for _, attributes in structure.seen for key, value in attributes.items() if key in ("src", "href") or key.startswith("on")]
    assert "url(" not in report
    assert "@import" not in report
    assert any((attributes.get("content") or "").startswith("default-src 'none'") for _, attributes in structure.seen)


def test_text_of_others_is_never_markup(workspace: Path, tmp_path: Path) -> None:
    """A person's label is text of others like any token."""
    place = Workspace(workspace)
    index = FeatureIndex.open(place.find("index"), place)
    plain = index.label(0)
    index.set_label(0, text="<script>alert(1)</script>")
    try:
        written = write_report(place, tmp_path / "report.html", n_cards=2 * index.n_features).read_text()
    finally:
        index.set_label(0, text=plain.text if plain.origin == "user" else "")
    assert "<script>" not in written
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in written


def test_the_numbers_are_those_of_the_index(structure: Structure, workspace: Path) -> None:
    overview = FeatureIndex.open(Workspace(workspace).find("index"), Workspace(workspace)).overview()
    text = "".join(structure.text)
    active = overview.counts["nonzeros"] / overview.counts["kept"]
    assert f"{overview.counts['features']:,} features, {active:.3g} active a token" in text
    assert f"{overview.counts['nonzeros']:,} firings" in text
    assert overview.id in text


def test_the_random_controls_densities_stand_beside_the_dictionarys(structure: Structure) -> None:
    text = "".join(structure.text)
    assert "this dictionary: " in text
    assert "random control: " in text


def test_the_strongest_rules_are_those_that_hold_on_test_documents(workspace: Path) -> None:
    index = FeatureIndex.open(Workspace(workspace).find("index"), Workspace(workspace))
    card = index.card(0)

    def made(feature: int, *, f1: float, f1_test: float | None, weak: bool = False, kind: str = "token") -> Card:
        rule = dataclasses.replace(card.rule, f1=f1, f1_test=f1_test, weak=weak, kind=kind)
        return dataclasses.replace(card, feature=feature, rule=rule)

    cards = [
        made(0, f1=0.99, f1_test=0.1, weak=True),
        made(1, f1=0.9, f1_test=0.5),
        made(2, f1=0.8, f1_test=0.7),
        made(3, f1=0.95, f1_test=None),
        made(4, f1=0.7, f1_test=0.6, kind="topic"),
    ]
    assert [picked.feature for picked in strongest(cards, 3)] == [2, 4, 1]
    assert [picked.feature for picked in strongest(cards, 9, each_kind=1)] == [2, 4]


@pytest.mark.parametrize(
    ("name", "said"), [("Q4_1", "4 bits a weight"), ("Q8_0", "8 bits a weight"), ("IQ3_XXS", "3 bits a weight"), ("GUESSED", "(GUESSED)")]
)
def test_how_coarse_the_weights_are_is_read_from_the_scheme(workspace: Path, name: str, said: str) -> None:
    content = gather(Workspace(workspace), index=None, costs=(), commands=(), seed=0, n_cards=2)
    sources = {**content.overview.sources, "quantised": name}
    text = render(dataclasses.replace(content, overview=dataclasses.replace(content.overview, sources=sources)))
    assert said in text
    assert "about 4 bits" not in text


def test_costs_and_the_choice_of_cards_are_stated(structure: Structure) -> None:
    text = "".join(structure.text)
    assert "2,000 tokens/s" in text
    assert "drawn with seed 0" in text
    assert "microtome demo" in text


def test_the_same_workspace_gives_the_same_report(report: str, workspace: Path, tmp_path: Path) -> None:
    again = write_report(Workspace(workspace), tmp_path / "again.html", costs=COSTS, commands=("microtome demo",), n_cards=8)
    assert again.read_text() == report


def test_dose_against_effect_stands_with_its_controls(workspace: Path) -> None:
    def figure(value: float, low: float, high: float) -> Result:
        return Result(name="matches", value=value, low=low, high=high, n=8, unit="share")

    def point(dose: float, *, effect: float, random: float) -> Dose:
        beside = {"random": figure(random, random - 0.1, random + 0.1)}
        margin = {"random": figure(effect - random, effect - random - 0.1, effect - random + 0.1)}
        cost = Result(name="cross_entropy", value=1 + dose, n=8, unit="nats a token")
        said = f"<b>dose {dose:g}"
        return Dose(
            dose=dose, effect=figure(effect, effect - 0.1, effect + 0.1), controls=beside, margins=margin, coherence=cost, edited_tokens=9, text=said
        )

    points = (point(0, effect=0, random=0), point(1, effect=0.625, random=0.125))
    curve = DoseCurve(
        title="Feature 7 was added.",
        measure="the share that says it",
        edits="f" * 16,
        unedited=0.25,
        prompts=("My place is",),
        controls={"random": "by chance."},
        points=points,
    )
    content = dataclasses.replace(gather(Workspace(workspace), index=None, costs=(), commands=(), seed=0, n_cards=2), steering=curve)
    parser = Structure()
    parser.feed(render(content))
    text = "".join(parser.text)
    for said in (
        "Feature 7 was added.",
        "0.625",
        "0.525 … 0.725",
        "by chance.",
        "At dose 1 the edit does more than every other edit here.",
        "<b>dose 1",
    ):
        assert said in text
    assert "<b>dose" not in render(content)  # text of a model is never markup
    assert "repeats" not in text  # an earlier release did not measure it
    said = [dataclasses.replace(each, repetition=figure(0.25 + i / 2, 0, 1)) for i, each in enumerate(points)]
    page = render(dataclasses.replace(content, steering=dataclasses.replace(curve, points=tuple(said))))
    assert [share in page for share in ("repeats itself is cheap", ">repeats<", ">25%<", ">75%<")] == [True] * 4
    weak = dataclasses.replace(curve, points=(points[0], point(1, effect=0.125, random=0.125)))
    assert "At no dose" in render(dataclasses.replace(content, steering=weak))
