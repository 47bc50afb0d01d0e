"""The docs check: what has a name has its page, generated pages are current, and links lead somewhere."""

import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import microtome
from microtome.cli.app import VERBS
from microtome.errors import MicrotomeError
from microtome.registry import REGISTRIES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"])
ROOMS = sorted(found.name for found in pkgutil.iter_modules(microtome.__path__) if found.ispkg)


def kinds_of_error(kind: type[MicrotomeError] = MicrotomeError) -> list[type[MicrotomeError]]:
    return [each for child in kind.__subclasses__() for each in (child, *kinds_of_error(child)) if each.__module__ == "microtome.errors"]


def sections(page: Path) -> dict[str, str]:
    """Text of every `## …` section by its heading."""
    parts = re.split(r"^## +(.+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("kind", kinds_of_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_symptom_cause_and_fix(kind: type[MicrotomeError]) -> None:
    section = sections(ROOT / "docs" / "errors.md").get(kind.slug())
    assert section is not None, f"docs/errors.md has no section ## {kind.slug()}"
    for part in ("**Symptom**", "**Cause**", "**Fix**"):
        assert part in section, f"the section {kind.slug()} of docs/errors.md has no {part}"


def test_errors_have_one_section_each_and_no_section_is_left_over() -> None:
    headings = re.findall(r"^## +(.+)$", (ROOT / "docs" / "errors.md").read_text(), flags=re.MULTILINE)
    assert sorted(headings) == sorted(kind.slug() for kind in kinds_of_error())


@pytest.mark.parametrize("verb", [verb.__name__ for verb in VERBS])
def test_every_verb_has_its_section_with_examples(verb: str) -> None:
    section = sections(ROOT / "docs" / "reference" / "cli.md")[f"microtome {verb}"]
    assert f"    microtome {verb}" in section


def test_the_command_reference_is_what_help_says() -> None:
    page = ROOT / "docs" / "reference" / "cli.md"
    assert page.read_text() == runpy.run_path(str(ROOT / "tools" / "cli_reference.py"))["page"](), "stale: run `make docs`"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])
def test_every_room_has_a_page_that_names_all_it_offers(room: str) -> None:
    page = ROOT / "docs" / "reference" / f"{room}.md"
    assert page.is_file(), f"docs/reference/{room}.md is missing"
    offered = importlib.import_module(f"microtome.{room}").__all__
    text = page.read_text()
    missing = [name for name in offered if not re.search(rf"\b{re.escape(name)}\b", text)]
    assert not missing, f"docs/reference/{room}.md does not mention {', '.join(missing)}"


def test_every_registered_part_is_on_a_page() -> None:
    for room in ROOMS:
        importlib.import_module(f"microtome.{room}")
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    missing = [f"{kind} {name}" for kind, registry in REGISTRIES.items() for name in registry if f"`{name}`" not in text]
    assert not missing, f"no page under docs/reference names {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and file.suffix == ".md":
            assert anchor in [slug(heading) for heading in re.findall(r"^#+ +(.+)$", file.read_text(), flags=re.MULTILINE)]


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_the_changelog_has_this_release() -> None:
    assert microtome.__version__ in sections(ROOT / "CHANGELOG.md")
