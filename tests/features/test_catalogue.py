"""Labels and notes: searched, replaced, kept apart by index, safe under two processes."""

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from microtome.errors import ArtifactForeign, QueryInvalid
from microtome.features import Catalogue, Label

RULES = [
    Label(feature=0, text='the token " France"', origin="rule", f1=0.9),
    Label(feature=1, text="text about French law", origin="rule", f1=0.5),
    Label(feature=2, text="never fires", origin="rule", f1=0.0),
]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    made = Catalogue(tmp_path / "catalogue.sqlite")
    made.add_rules("one", RULES, name="one")
    return made


def test_search_finds_words_by_their_beginnings(catalogue: Catalogue) -> None:
    assert sorted(catalogue.search("one", "fran")) == [0]
    assert sorted(catalogue.search("one", "fr")) == [0, 1]
    assert catalogue.search("one", "law french") == [1]
    assert catalogue.search("one", "german") == []
    assert catalogue.search("two", "france") == [], "another index has its own labels"


def test_search_syntax_is_plain_text(catalogue: Catalogue) -> None:
    assert catalogue.search("one", 'france" OR "law') == []
    with pytest.raises(QueryInvalid, match="holds no word"):
        catalogue.search("one", '"*')


def test_a_persons_label_is_found_and_taken_away_again(catalogue: Catalogue) -> None:
    before = catalogue.revision
    catalogue.set_label("one", 2, text=" a dead parrot ")
    assert catalogue.revision > before
    assert catalogue.user_labels("one") == [Label(feature=2, text="a dead parrot", origin="user", f1=None)]
    catalogue.set_label("one", 2, text="an ex-parrot")
    assert catalogue.search("one", "ex parrot") == [2]
    assert catalogue.search("one", "dead") == []
    catalogue.set_label("one", 2, text="")
    assert catalogue.user_labels("one") == []
    assert catalogue.search("one", "parrot") == []


def test_entering_the_rules_twice_changes_nothing(catalogue: Catalogue) -> None:
    before = catalogue.revision
    catalogue.add_rules("one", [Label(feature=0, text="other", origin="rule", f1=1.0)], name="one")
    assert catalogue.search("one", "other") == []
    assert catalogue.search("one", "france") == [0]
    assert catalogue.revision <= before + 1


def test_notes_stay_in_order(catalogue: Catalogue) -> None:
    catalogue.add_note("one", 1, text="odd")
    catalogue.add_note("one", 1, text="<script>alert(1)</script>")
    assert [note.text for note in catalogue.notes("one", 1)] == ["odd", "<script>alert(1)</script>"]
    with pytest.raises(QueryInvalid, match="empty"):
        catalogue.add_note("one", 1, text="  ")


def test_many_threads_write_at_once(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: catalogue.add_note("one", 0, text=str(i)), range(40)))
    assert len(catalogue.notes("one", 0)) == 40


def test_two_processes_share_one_catalogue(tmp_path: Path) -> None:
    code = (
        "import sys; from microtome.features.catalogue import Catalogue\n"
        "c = Catalogue(sys.argv[1])\n"
        "for i in range(50): c.add_note('one', 0, text=sys.argv[2] + str(i))"
    )
    path = str(tmp_path / "catalogue.sqlite")
    other = subprocess.Popen([sys.executable, "-c", code, path, "b"])
    catalogue = Catalogue(path)
    while not catalogue.notes("one", 0) and other.poll() is None:
        time.sleep(0.01)
    for i in range(50):
        catalogue.add_note("one", 0, text=f"a{i}")
    assert other.wait(timeout=120) == 0
    assert len(catalogue.notes("one", 0)) == 100


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    Catalogue(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ArtifactForeign, match="foreign schema"):
        Catalogue(path)
