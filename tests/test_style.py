"""Limits that no linter has: length of files, functions and classes, and what a room offers."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("microtome", "tests", "tools", "bench") for path in (ROOT / folder).rglob("*.py") if ".venv" not in path.parts)
LIMITS: dict[type[ast.AST], int] = {ast.FunctionDef: 80, ast.AsyncFunctionDef: 80, ast.ClassDef: 300}
FILE_LIMIT = 500


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_longer_than_its_limit(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= FILE_LIMIT, f"{path.relative_to(ROOT)} is longer than {FILE_LIMIT} lines: split it by idea"
    for node in ast.walk(ast.parse(source)):
        limit = LIMITS.get(type(node))
        if limit is not None:
            assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= limit, f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines, more than {limit}"


@pytest.mark.parametrize("path", sorted((ROOT / "microtome").glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_a_room_says_what_it_offers(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path.parent.name} has no docstring"
    names = [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)]
    assert "__all__" in names, f"{path.parent.name} has no __all__"


def test_no_room_is_entered_through_a_file_of_it() -> None:
    """A room's own sub-rooms (folders with an `__init__`) may be entered; its files may not."""
    rooms = {path.parent.name for path in (ROOT / "microtome").glob("*/__init__.py")}
    offences: list[str] = []
    for path in sorted((ROOT / "microtome").rglob("*.py")):
        home = path.relative_to(ROOT / "microtome").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("microtome."):
                parts = node.module.split(".")
                is_file = ROOT.joinpath(*parts).with_suffix(".py").is_file()
                if len(parts) > 2 and parts[1] in rooms and parts[1] != home and is_file:
                    offences.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {node.module}")
    assert not offences, "\n".join(offences)


def test_no_generated_or_private_file_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    bad = [name for name in tracked if any(part in {".venv", "node_modules", "__pycache__"} for part in Path(name).parts)]
    bad += [name for name in tracked if name.endswith(".pt") and not name.startswith("tests/dictionaries/fixtures/dictionary_learning/")]
    assert not bad, bad
