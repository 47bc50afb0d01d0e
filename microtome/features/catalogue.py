"""The catalogue: one SQLite file beside the artifacts of a workspace with what people and rules say about features.

Artifacts never change; labels and notes do, so they live here, keyed by the index's id. WAL mode and short transactions make it safe under
several threads and processes. Labels are searched through FTS5.
"""

import re
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from microtome.errors import ArtifactForeign, QueryInvalid
from microtome.features.records import Label, Note

SCHEMA = 1
_TABLES = """
CREATE TABLE indexes (index_id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE labels (
    id INTEGER PRIMARY KEY, index_id TEXT NOT NULL, feature INTEGER NOT NULL, text TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('rule', 'user')), f1 REAL, created TEXT NOT NULL,
    UNIQUE (index_id, feature, origin)
);
CREATE TABLE notes (id INTEGER PRIMARY KEY, index_id TEXT NOT NULL, feature INTEGER NOT NULL, text TEXT NOT NULL, created TEXT NOT NULL);
CREATE INDEX notes_by_feature ON notes (index_id, feature);
CREATE VIRTUAL TABLE label_words USING fts5 (text, content='labels', content_rowid='id', prefix='2 3');
CREATE TRIGGER labels_added AFTER INSERT ON labels BEGIN
    INSERT INTO label_words (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER labels_removed AFTER DELETE ON labels BEGIN
    INSERT INTO label_words (label_words, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER labels_changed AFTER UPDATE ON labels BEGIN
    INSERT INTO label_words (label_words, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO label_words (rowid, text) VALUES (new.id, new.text);
END;
CREATE TABLE revision (number INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""


class Catalogue:
    """Labels and notes of all indexes of a workspace; made on first use."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            found: int = database.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                for statement in _statements(_TABLES):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {SCHEMA}")
            database.execute("COMMIT")
        if found > SCHEMA:
            do = "Use the release of microtome that wrote it."
            raise ArtifactForeign(f"{self.path} has a foreign schema version.", got=found, wanted=SCHEMA, do=do)

    @property
    def revision(self) -> int:
        """Goes up with every change, by whichever process."""
        with self._open() as database:
            return int(database.execute("SELECT number FROM revision").fetchone()[0])

    def add_rules(self, index_id: str, labels: Sequence[Label], *, name: str) -> None:
        """Enter the rule labels of an index, once; a second call changes nothing."""
        with self._change() as database:
            if database.execute("INSERT OR IGNORE INTO indexes VALUES (?, ?)", (index_id, name)).rowcount == 0:
                return
            rows = [(index_id, label.feature, label.text, label.f1, _now()) for label in labels]
            database.executemany("INSERT INTO labels (index_id, feature, text, origin, f1, created) VALUES (?, ?, ?, 'rule', ?, ?)", rows)

    def set_label(self, index_id: str, feature: int, *, text: str) -> None:
        """Give a feature a person's label in place of the one before; an empty text takes it away, and the rule's shows again."""
        with self._change() as database:
            if not text.strip():
                database.execute("DELETE FROM labels WHERE index_id = ? AND feature = ? AND origin = 'user'", (index_id, feature))
                return
            database.execute(
                "INSERT INTO labels (index_id, feature, text, origin, created) VALUES (?, ?, ?, 'user', ?)"
                " ON CONFLICT (index_id, feature, origin) DO UPDATE SET text = excluded.text, created = excluded.created",
                (index_id, feature, text.strip(), _now()),
            )

    def user_labels(self, index_id: str) -> list[Label]:
        """Labels that people gave, by feature."""
        with self._open() as database:
            rows = database.execute("SELECT feature, text FROM labels WHERE index_id = ? AND origin = 'user' ORDER BY feature", (index_id,))
            return [Label(feature=feature, text=text, origin="user", f1=None) for feature, text in rows]

    def add_note(self, index_id: str, feature: int, *, text: str) -> None:
        """Leave a remark on a feature."""
        if not text.strip():
            raise QueryInvalid("the note is empty.", got=repr(text), wanted="some text", do="Write something.")
        with self._change() as database:
            database.execute("INSERT INTO notes (index_id, feature, text, created) VALUES (?, ?, ?, ?)", (index_id, feature, text.strip(), _now()))

    def notes(self, index_id: str, feature: int) -> tuple[Note, ...]:
        """Remarks on a feature, oldest first."""
        with self._open() as database:
            rows = database.execute("SELECT text, created FROM notes WHERE index_id = ? AND feature = ? ORDER BY id", (index_id, feature))
            return tuple(Note(text=text, created=created) for text, created in rows)

    def search(self, index_id: str, text: str) -> list[int]:
        """Features with a label (rule or person's) that holds a word beginning with each word of `text`, best match first."""
        words = re.findall(r"\w+", text)
        if not words:
            raise QueryInvalid("the search holds no word.", got=repr(text), wanted="letters or digits", do='Search for words, or filter: token = ","')
        query = " ".join(f'"{word}"*' for word in words)
        with self._open() as database:
            rows = database.execute(
                "SELECT feature FROM label_words JOIN labels ON labels.id = label_words.rowid"
                " WHERE label_words MATCH ? AND index_id = ? ORDER BY rank, feature",
                (query, index_id),
            )
            return list(dict.fromkeys(feature for (feature,) in rows))

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        """A connection of its own for each piece of work, so that any thread may ask."""
        database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            yield database
        finally:
            database.close()

    @contextmanager
    def _change(self) -> Generator[sqlite3.Connection]:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("UPDATE revision SET number = number + 1")
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")


def _statements(script: str) -> list[str]:
    """The statements of a script; a trigger's inner semicolons do not end it."""
    found: list[str] = []
    part = ""
    for line in script.strip().splitlines():
        part += line + "\n"
        if sqlite3.complete_statement(part):
            found.append(part)
            part = ""
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
