"""Rows of figures under a label: whole at every width, the label beside or below."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from microtome.cli.listing import Listing

HEADINGS = ("feature", "site", "label", "TWERA", "together on", "density")
LABEL = "the words " + ", ".join(f'"word{n}"' for n in range(12)) + ", however written"
ROWS = [("239", "L12.mlp_in", LABEL, "-0.000909", "1,214 tokens", "2.658%"), ("7", "L6.mlp_in", "short", "3e-05", "1 token", "0.003%")]


def printed(listing: Listing, *, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(listing, markup=False)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [64, 80, 92, 100, 120, 200])
def test_figures_and_sites_are_whole_at_every_width(width: int) -> None:
    lines = printed(Listing(title="promotes", headings=HEADINGS, rows=ROWS), width=width)
    assert max(map(len, lines)) <= width
    for row in ROWS:
        assert any(all(cell in line for at, cell in enumerate(row) if at != 2) for line in lines), row
    said = " ".join(" ".join(lines).replace("│", " ").split())
    assert "…" not in said
    assert all(f'"word{n}"' in said for n in range(12))


@pytest.mark.parametrize("width", [30, 44, 50, 58])
def test_where_figures_have_no_room_either_whole_columns_go_to_the_next_line(width: int) -> None:
    lines = printed(Listing(title="promotes", headings=HEADINGS, rows=ROWS), width=width)
    assert max(map(len, lines)) <= width
    for at, heading in enumerate(HEADINGS):
        if heading != "label":
            assert any(heading in line for line in lines), heading
            assert all(any(row[at] in line for line in lines) for row in ROWS), heading
    assert all(line[0] == " " for line in lines[3:] if not line.lstrip().startswith(("239 ", "7 ")))  # nothing falls back to the edge


def test_a_label_without_room_stands_under_its_figures() -> None:
    assert printed(Listing(title="promotes", headings=HEADINGS, rows=ROWS[1:]), width=50) == [
        "",
        "promotes",
        "feature  site       TWERA  together on  density",
        "      7  L6.mlp_in  3e-05      1 token   0.003%",
        "         short",
    ]
    two = Listing(title="", headings=("n", "a", "b"), rows=[("12345678", "x" * 30, "y\x1b[0m" * 30)], texts=("a", "b"))
    lines = printed(two, width=50)
    assert [line.strip()[:4] for line in lines[3:5]] == ["1234", "a: x"], "several texts have names"
    assert "\x1b" not in "".join(lines)


def test_a_table_has_its_borders_and_an_example_stays_a_line() -> None:
    example = Text("a long example " * 9, no_wrap=True, overflow="ellipsis")
    listing = Listing(title="features", headings=("feature", "label", "example"), rows=[("3", LABEL, example)], texts=("label", "example"))
    lines = printed(listing, width=80)
    assert {line[-1] for line in lines[1:]} <= set("┓┃┩│┘")
    assert sum("a long example" in line for line in lines) == 1


def test_nothing_is_said_to_be_nothing() -> None:
    assert printed(Listing(title="promotes", headings=HEADINGS, rows=[]), width=80) == ["promotes: nothing"]
