"""Writes docs/reference/cli.md from the command line's own help; `make docs` runs it, and the docs check fails when the page is stale."""

import io
import sys
from pathlib import Path

from rich.console import Console

from microtome.cli.app import GROUPS, VERBS, build_app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"

_HEAD = """# Command line

Generated from `microtome --help` by `make docs`; do not edit. Exit codes: 0 done, 2 an error that its four parts explain, 130 interrupted
(run the same command again to resume). With `--json` the result, or the error, is one JSON document on standard output; progress and costs go to
standard error.
"""


def page() -> str:
    """The page as it should be."""
    sections = [_HEAD, _section("microtome", [])]
    sections += [_section(f"microtome {verb.__name__}", [verb.__name__]) for verb in VERBS]
    for make in GROUPS:
        (name,) = make().name
        sections.append(_section(f"microtome {name}", [name]))
        sections += [_section(f"microtome {name} {verb}", [name, verb]) for verb in make() if not verb.startswith("-")]
    return "\n".join(sections)


def _section(title: str, tokens: list[str]) -> str:
    text = io.StringIO()
    build_app().help_print(tokens, console=Console(file=text, width=100, color_system=None, force_terminal=False, legacy_windows=False))
    lines = "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())
    return f"## {title}\n\n```\n{lines}\n```\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
    sys.stderr.write(f"wrote {PAGE}\n")
