"""The report: one file that asks for nothing, shows its sources, and takes no markup from text of others."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from microtome.artifacts import Workspace
from microtome.costs import Cost
from microtome.features import FeatureIndex
from microtome.web import write_report

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
    assert f"{overview.counts['features']:,} features" in text
    assert f"{overview.counts['nonzeros']:,} firings" in text
    assert overview.id in text


def test_the_random_controls_densities_stand_beside_the_dictionarys(structure: Structure) -> None:
    text = "".join(structure.text)
    assert "this dictionary: " in text
    assert "random control: " in text


def test_costs_and_the_choice_of_cards_are_stated(structure: Structure) -> None:
    text = "".join(structure.text)
    assert "2,000 tokens/s" in text
    assert "drawn with seed 0" in text
    assert "microtome demo" in text


def test_the_same_workspace_gives_the_same_report(report: str, workspace: Path, tmp_path: Path) -> None:
    again = write_report(Workspace(workspace), tmp_path / "again.html", costs=COSTS, commands=("microtome demo",), n_cards=8)
    assert again.read_text() == report
