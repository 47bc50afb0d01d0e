"""HTML built from values: every string is escaped unless it is `Markup` already, so text of data sets cannot become markup."""

from html import escape
from typing import final


@final
class Markup(str):
    """Text that is HTML already. Only `tag`, `join` and charts make it; never wrap text of others in it."""


Child = str | int | float | None
"""What a tag can contain: `Markup` as it is, other values escaped, None not at all."""


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """An element. Attribute names drop a trailing underscore and turn others into hyphens: `tag("p", "a < b", class_="x")`.

    An attribute of value None or False is left out, True stands without a value.
    """
    written: list[str] = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        plain = key.rstrip("_").replace("_", "-")
        written.append(f" {plain}" if value is True else f' {plain}="{escape(str(value))}"')
    opening = f"<{name}{''.join(written)}"
    return Markup(f"{opening}/>") if name in _VOID else Markup(f"{opening}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after the other, those that are not markup escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(str(child)) for child in children if child is not None))


_VOID = frozenset({"br", "hr", "img", "meta", "link", "input", "line", "circle", "rect", "path"})
