"""Text of data sets is shown in the terminal, never obeyed by it."""

from microtome.cli.cards import plain, quoted, sparkline


def test_escape_sequences_and_line_breaks_are_shown_not_obeyed() -> None:
    assert plain("\x1b[31mred\x07\n\tend") == "·[31mred·↵⇥end"
    assert quoted(" the") == '" the"'


def test_a_sparkline_has_a_block_for_every_bin_and_none_for_an_empty_one() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([]) == ""
