"""What the pages are made of: vendored files as recorded, types as the records are, nothing from elsewhere."""

import hashlib
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

import microtome.web
from microtome.web.api_texts import MAX_TEXT_CHARS, MAX_TEXTS

ROOT = Path(__file__).parents[2]
STATIC = Path(microtome.web.__file__).parent / "static"
TOOLS = ROOT / "web-tools"
OURS = sorted(path for path in STATIC.rglob("*") if path.suffix in (".js", ".html", ".css") and "vendor" not in path.parts)


def test_vendored_files_are_the_recorded_ones_with_their_licences() -> None:
    record = json.loads((STATIC / "vendor" / "vendor.json").read_text())
    known = {"vendor.json"}
    for entry in record:
        content = (STATIC / "vendor" / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        assert entry["licence"] in ("MIT", "Apache-2.0")
        assert len((STATIC / "vendor" / entry["licence_file"]).read_text()) > 500
        known |= {entry["file"], entry["licence_file"], entry["file"].replace(".js", ".d.ts")}
    assert {path.name for path in (STATIC / "vendor").iterdir()} == known


def test_vendored_versions_are_the_locked_ones() -> None:
    locked = json.loads((TOOLS / "package-lock.json").read_text())["packages"]
    for entry in json.loads((STATIC / "vendor" / "vendor.json").read_text()):
        assert locked[f"node_modules/{entry['package']}"]["version"] == entry["version"]
    assert "resolved" not in (TOOLS / "package-lock.json").read_text(), "the lock file names a registry"


def test_the_typed_records_are_up_to_date() -> None:
    write = runpy.run_path(str(TOOLS / "records.py"))["declarations"]
    assert (TOOLS / "records.d.ts").read_text() == write(), "run: python web-tools/records.py"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_file_reaches_outside_or_makes_markup_of_text(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"(src|href|from|import|url)\s*[=(]?\s*[\"'(]?(https?:)?//(?!www\.w3\.org)", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|\beval\(|new Function", text)
    assert len(text.splitlines()) <= 500


def test_the_boxes_take_as_much_as_the_server() -> None:
    said = dict(re.findall(r"export const (TEXT_CHARS|TEXTS) = (\d+);", (STATIC / "panels" / "textbox.js").read_text()))
    assert {name: int(value) for name, value in said.items()} == {"TEXT_CHARS": MAX_TEXT_CHARS, "TEXTS": MAX_TEXTS}


def test_the_types_of_the_pages_check() -> None:
    compiler = TOOLS / "node_modules" / ".bin" / "tsc"
    if shutil.which("node") is None or not compiler.exists():
        pytest.skip("TypeScript is not installed: run `npm ci` in web-tools")
    run = subprocess.run([compiler, "--project", TOOLS / "tsconfig.json"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
