"""The catalogue: one SQLite file beside the artifacts of a workspace with what people and rules say about features.

Artifacts never change; labels, notes, verdicts and lists do, so they live here, keyed by the index's id. WAL mode and short transactions make it
safe under several threads and processes. Labels are searched through FTS5.

Where the workspace cannot be written, its catalogue is read into memory as it was when it was opened: everything can be looked up, and only a
person's own word is refused.
"""

import json
import os
import re
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from microtome.config import to_dict
from microtome.errors import ArtifactDamaged, ArtifactForeign, DiskFull, MicrotomeError, QueryInvalid, WorkspaceBusy, WorkspaceReadOnly
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
_RECORDS = """
CREATE TABLE IF NOT EXISTS records (
    index_id TEXT NOT NULL, feature INTEGER NOT NULL, kind TEXT NOT NULL, config TEXT NOT NULL, content TEXT NOT NULL, created TEXT NOT NULL,
    PRIMARY KEY (index_id, kind, config, feature)
)
"""
"""Made with the first record, so that earlier releases can go on using the file."""
_KEPT = """
CREATE TABLE IF NOT EXISTS verdicts (
    index_id TEXT NOT NULL, feature INTEGER NOT NULL, verdict TEXT NOT NULL, created TEXT NOT NULL, PRIMARY KEY (index_id, feature)
);
CREATE TABLE IF NOT EXISTS lists (id INTEGER PRIMARY KEY, index_id TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL, UNIQUE (index_id, name));
CREATE TABLE IF NOT EXISTS listed (list INTEGER NOT NULL, feature INTEGER NOT NULL, PRIMARY KEY (list, feature));
"""
"""Made with the first list or verdict, for the same reason."""


class Catalogue:
    """Labels and notes of all indexes of a workspace; made on first use.

    Every method raises `ArtifactDamaged`, `DiskFull`, or `WorkspaceBusy` when another process holds the file longer than `timeout_s`.
    """

    def __init__(self, path: str | Path, *, timeout_s: float = 30.0) -> None:
        self.path = Path(path)
        self._timeout_s = timeout_s
        self._copy: sqlite3.Connection | None = None
        self._copy_lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()
        except (WorkspaceReadOnly, PermissionError):
            self._copy = _in_memory(self.path)
            self._prepare()

    @property
    def is_read_only(self) -> bool:
        """Whether the workspace cannot be written, so that this is a copy in memory."""
        return self._copy is not None

    def _prepare(self) -> None:
        """Make the tables where there are none yet; `ArtifactForeign` for a later schema."""
        with self._open() as database:
            found = _schema_of(database)
            if found == 0:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("BEGIN IMMEDIATE")
                if _schema_of(database) == 0:  # nobody else made them meanwhile
                    _run_all(database, _TABLES)
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
                database.execute("COMMIT")
            elif found > SCHEMA:
                do = "Use the release of microtome that wrote it."
                raise ArtifactForeign(f"{self.path} has a foreign schema version.", got=found, wanted=SCHEMA, do=do)
            else:
                database.execute("SELECT number FROM revision").fetchone()

    @property
    def revision(self) -> int:
        """Goes up with every change of labels or notes, by whichever process."""
        with self._open() as database:
            return int(database.execute("SELECT number FROM revision").fetchone()[0])

    def add_rules(self, index_id: str, labels: Sequence[Label], *, name: str) -> None:
        """Enter the rule labels of an index, once; a second call changes nothing (and writes nothing)."""
        with self._open() as database:
            if database.execute("SELECT 1 FROM indexes WHERE index_id = ?", (index_id,)).fetchone():
                return
        with self._change(own=False) as database:
            if database.execute("INSERT OR IGNORE INTO indexes VALUES (?, ?)", (index_id, name)).rowcount == 0:
                return
            rows = [(index_id, label.feature, label.text, label.f1, _now()) for label in labels]
            database.executemany("INSERT INTO labels (index_id, feature, text, origin, f1, created) VALUES (?, ?, ?, 'rule', ?, ?)", rows)

    def set_label(self, index_id: str, feature: int, *, text: str) -> None:
        """Give a feature a person's label in place of the one before; an empty text takes it away, and the rule's shows again.

        Raises `WorkspaceReadOnly`, as `add_note` does.
        """
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

    def all_notes(self, index_id: str) -> dict[int, tuple[Note, ...]]:
        """Every remark, by feature, oldest first."""
        found: dict[int, tuple[Note, ...]] = {}
        with self._open() as database:
            for feature, text, created in database.execute("SELECT feature, text, created FROM notes WHERE index_id = ? ORDER BY id", (index_id,)):
                found[feature] = (*found.get(feature, ()), Note(text=text, created=created))
        return found

    def set_verdict(self, index_id: str, feature: int, *, verdict: str) -> None:
        """Say what became of a feature in place of what was said before; an empty verdict takes it away. Raises `WorkspaceReadOnly`."""
        with self._change() as database:
            _run_all(database, _KEPT)
            if verdict:
                database.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", (index_id, feature, verdict, _now()))
            else:
                database.execute("DELETE FROM verdicts WHERE index_id = ? AND feature = ?", (index_id, feature))

    def verdicts(self, index_id: str) -> dict[int, str]:
        """Verdicts by feature, ascending."""
        with self._open() as database:
            if not _has(database, "verdicts"):
                return {}
            rows = database.execute("SELECT feature, verdict FROM verdicts WHERE index_id = ? ORDER BY feature", (index_id,))
            return {feature: verdict for feature, verdict in rows}

    def change_list(self, index_id: str, name: str, *, add: Sequence[int] = (), remove: Sequence[int] = ()) -> None:
        """Make a list of features, or put features on it and take others off it. Raises `WorkspaceReadOnly`."""
        with self._change() as database:
            _run_all(database, _KEPT)
            if add or not remove:
                database.execute("INSERT OR IGNORE INTO lists (index_id, name, created) VALUES (?, ?, ?)", (index_id, name, _now()))
            row = database.execute("SELECT id FROM lists WHERE index_id = ? AND name = ?", (index_id, name)).fetchone()
            if row is None:
                return  # it was dropped meanwhile, so nothing is on it
            found = row[0]
            database.executemany("INSERT OR IGNORE INTO listed VALUES (?, ?)", [(found, feature) for feature in add])
            database.executemany("DELETE FROM listed WHERE list = ? AND feature = ?", [(found, feature) for feature in remove])

    def drop_list(self, index_id: str, name: str) -> None:
        """Take a list away; its features are as they were. One that is not there is no error."""
        with self._change() as database:
            _run_all(database, _KEPT)
            database.execute("DELETE FROM listed WHERE list IN (SELECT id FROM lists WHERE index_id = ? AND name = ?)", (index_id, name))
            database.execute("DELETE FROM lists WHERE index_id = ? AND name = ?", (index_id, name))

    def lists(self, index_id: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """When each list was made, and its features ascending; by name, oldest first."""
        with self._open() as database:
            if not _has(database, "lists"):
                return {}
            asked = (
                "SELECT name, created, feature FROM lists LEFT JOIN listed ON listed.list = lists.id WHERE index_id = ? ORDER BY lists.id, feature"
            )
            found: dict[str, tuple[str, list[int]]] = {}
            for name, created, feature in database.execute(asked, (index_id,)):
                found.setdefault(name, (created, []))[1].extend([] if feature is None else [feature])
            return {name: (created, tuple(features)) for name, (created, features) in found.items()}

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

    def add_record(self, index_id: str, feature: int, *, kind: str, config: str, content: Any) -> None:
        """Keep what was measured of a feature under one setting, in place of what was there. Raises `WorkspaceReadOnly`."""
        row = (index_id, feature, kind, config, json.dumps(to_dict(content), ensure_ascii=False, allow_nan=False), _now())
        with self._change(revises=False) as database:
            database.execute(_RECORDS)
            database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)", row)

    def record(self, index_id: str, feature: int, *, kind: str, config: str) -> dict[str, Any] | None:
        """What was measured of a feature under one setting; None where nothing was."""
        with self._open() as database:
            if not _has(database, "records"):
                return None
            asked = "SELECT content FROM records WHERE index_id = ? AND kind = ? AND config = ? AND feature = ?"
            found = database.execute(asked, (index_id, kind, config, feature)).fetchone()
            return None if found is None else json.loads(found[0])

    def recorded(self, index_id: str, *, kind: str, config: str) -> frozenset[int]:
        """The features that have such a record."""
        with self._open() as database:
            if not _has(database, "records"):
                return frozenset()
            asked = "SELECT feature FROM records WHERE index_id = ? AND kind = ? AND config = ?"
            return frozenset(feature for (feature,) in database.execute(asked, (index_id, kind, config)))

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        """A connection of its own for each piece of work (the one copy in turn), so that any thread may ask."""
        with _named(self.path):
            if self._copy is not None:
                with self._copy_lock:
                    yield self._copy
                return
            database = sqlite3.connect(self.path, timeout=self._timeout_s, isolation_level=None)
            try:
                yield database
            finally:
                database.close()

    @contextmanager
    def _change(self, *, own: bool = True, revises: bool = True) -> Generator[sqlite3.Connection]:
        """A transaction; `own` for what a person wrote, which must not end in a copy that is thrown away; `revises` where labels may change."""
        if own and self._copy is not None:
            raise _read_only(self.path, "a folder that cannot be written")
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                if revises:
                    database.execute("UPDATE revision SET number = number + 1")
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")


def _in_memory(path: Path) -> sqlite3.Connection:
    """A catalogue that cannot be written, with what its log still holds, as a database in memory; an empty one where there is none."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if not path.is_file():
        return copy
    with tempfile.TemporaryDirectory() as folder, _named(path):
        for part in (path, path.with_name(f"{path.name}-wal")):
            if part.is_file():
                shutil.copyfile(part, Path(folder) / part.name)
        source = sqlite3.connect(Path(folder) / path.name)
        try:
            source.backup(copy)
        finally:
            source.close()
    return copy


@contextmanager
def _named(path: Path) -> Generator[None]:
    """SQLite's errors as ours, by their primary result code (sqlite.org/rescode.html); what could only be our own mistake stays as it is."""
    try:
        yield
    except sqlite3.Error as error:
        known = _translated(path, error)
        if known is None:
            raise
        raise known from error


def _translated(path: Path, error: sqlite3.Error) -> MicrotomeError | None:
    code, got = getattr(error, "sqlite_errorcode", 0) & 0xFF, str(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        do = "Wait until it is done, or stop it, and try again: nothing was changed."
        return WorkspaceBusy(f"another process is writing {path}.", got=got, wanted="a catalogue that is free", do=do)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        do = "Free some space and try again: labels and notes made before are kept."
        return DiskFull(f"the disk of {path} is full.", got=got, wanted="free space", do=do)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) and not path.is_dir():
        return _read_only(path, got)
    strange = code == sqlite3.SQLITE_ERROR and "no such" in got
    if strange or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        do = "Restore it from a copy, or move it away: a new one is made, with the rules' labels but without those of people and their notes."
        return ArtifactDamaged(f"{path} is damaged.", got=got, wanted="the catalogue of a workspace", do=do)
    return None


def _is_full(path: Path) -> bool:
    return os.access(path.parent, os.R_OK) and shutil.disk_usage(path.parent).free < 1 << 16


def _read_only(path: Path, got: str) -> WorkspaceReadOnly:
    do = "Make the folder writable, or copy the workspace to where you may write and work there."
    return WorkspaceReadOnly(f"{path} cannot be written, so labels and notes cannot be kept.", got=got, wanted="leave to write", do=do)


def _has(database: sqlite3.Connection, table: str) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone() is not None


def _run_all(database: sqlite3.Connection, script: str) -> None:
    for statement in _statements(script):
        database.execute(statement)


def _schema_of(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


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
