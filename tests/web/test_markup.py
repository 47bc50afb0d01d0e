"""Markup is only what `tag` made; every other string is escaped."""

from microtome.web.markup import Markup, join, tag


def test_strings_are_escaped_and_markup_is_not() -> None:
    assert tag("p", "a < b & c", tag("b", "x")) == "<p>a &lt; b &amp; c<b>x</b></p>"


def test_attributes_are_escaped_and_renamed_and_none_is_left_out() -> None:
    assert tag("td", class_='a"b', aria_label="x", hidden=True, id=None) == '<td class="a&quot;b" aria-label="x" hidden></td>'


def test_elements_without_content_close_themselves() -> None:
    assert tag("rect", x=1) == '<rect x="1"/>'


def test_join_keeps_numbers_and_drops_none() -> None:
    assert join("<", 3, None, Markup("<br/>")) == "&lt;3<br/>"
