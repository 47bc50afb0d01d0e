"""Sources: where documents come from. A source is a name in `SOURCES`, a path, or a dataset on the hub; `open_source` finds which.

A record that cannot be read is handed on as `Unreadable` with its error, so that the builder can stop or skip and count it, as the config says.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import count as counting
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from microtome.activations.corpus import CorpusConfig
from microtome.conversation import Conversation, from_messages
from microtome.errors import CorpusInvalid, CorpusNotFound, nearest
from microtome.progress import Progress
from microtome.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text or one conversation, with what its source says about it."""

    content: str | Conversation
    title: str = ""
    label: str = ""
    """A topic or class, "" when there is none."""
    source: str = ""
    """The file or dataset it came from."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A record that is no document."""

    reason: str
    """The kind of problem, for counting: `broken UTF-8`, `broken JSON`, `no text`, `bad messages`, `file type`."""
    error: CorpusInvalid


@runtime_checkable
class Source(Protocol):
    """Gives documents in a fixed order, as often as asked."""

    def fingerprint(self) -> str:
        """Changes when the documents do: it becomes an input of the corpus."""
        ...

    def count(self) -> int | None:
        """How many records there are, if that is known without reading them; for progress only."""
        ...

    def documents(self, *, progress: Progress | None = None) -> Iterator[Document | Unreadable]:
        """The records in order; `progress` hears of downloads."""
        ...


SOURCES: Registry[Callable[[CorpusConfig], Source]] = Registry("source")
"""Named sources: `wiki`, `chitchat`, `recipes`, `files`, `hub`, and those of other packages (entry points `microtome.source`)."""

SUFFIXES = (".txt", ".md", ".jsonl", ".parquet")
"""What `files` reads; the first three also with `.gz` behind."""


def open_source(config: CorpusConfig) -> Source:
    """The source that `config.source` names; `CorpusNotFound` with the nearest name when there is none."""
    name = config.source
    if name in SOURCES and name not in ("files", "hub"):
        return SOURCES.get(name)(config)
    if Path(name).expanduser().exists():
        return SOURCES.get("files")(config)
    parts = name.split("/")
    if len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") and not name.endswith((*SUFFIXES, ".gz")):
        return SOURCES.get("hub")(config)
    folder = Path(name).expanduser().parent
    beside = [str(entry) for entry in sorted(folder.iterdir())[:500]] if folder.is_dir() else []
    known = [packaged for packaged in SOURCES.names() if packaged not in ("files", "hub")]
    wanted = f"a file ({', '.join(SUFFIXES)}), a folder, one of {', '.join(known)}, or org/name on the hub"
    raise CorpusNotFound(f'there is no corpus source "{name}".', got=name, wanted=wanted, do=nearest(name, [*known, *beside]))


def document_of(record: Mapping[str, Any], config: CorpusConfig, *, where: str, source: str) -> Document:
    """Read one record of JSONL, Parquet or the hub; `CorpusInvalid` names what is wrong and where."""
    key = config.text_key or ("messages" if "messages" in record else "text")
    for asked in (key, *([config.label_key] if config.label_key else [])):
        if asked not in record:
            what, wanted = f'{where} has no field "{asked}".', f'"{asked}"'
            raise CorpusInvalid(what, got=", ".join(map(str, record)) or "no fields", wanted=wanted, do=nearest(asked, map(str, record)))
    value = record[key]
    label, title = record[config.label_key] if config.label_key else None, record.get("title")
    content: str | Conversation
    if isinstance(value, str):
        content = _checked(value, where)
    elif isinstance(value, list):
        content = from_messages(value, where=f"{where}.{key}")
        for turn in content.turns:
            _checked(turn.content, where)
    else:
        what = f'the field "{key}" of {where} is neither a text nor a list of messages.'
        raise CorpusInvalid(
            what, got=type(value).__name__, wanted="a string, or a list of {role, content}", do="Name the text's field with text_key."
        )
    return Document(content=content, title=_plain(title), label=_plain(label), source=source)


def _plain(value: object) -> str:
    return "" if value is None else str(value).encode("utf-8", errors="replace").decode()


def _checked(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        got = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise CorpusInvalid(f"{where} holds half a surrogate pair.", got=got, wanted="whole characters", do=_REPAIR) from error
    return text


_REPAIR = 'Repair it, or set invalid="skip" to leave such records out; they are counted.'


@SOURCES.register("files")
@final
class Files:
    """A file or a folder of files (its whole tree, in order of path): `.txt`, `.md`, `.jsonl`, `.parquet`, the text ones also gzipped.

    A `.txt` or `.md` file is one document. JSONL is split at "\\n" and nothing else, since texts may hold U+2028.
    """

    def __init__(self, config: CorpusConfig) -> None:
        self._config = config
        self._root = Path(config.source).expanduser()
        if self._root.is_dir():
            entries = sorted(path for path in self._root.rglob("*") if path.is_file() and not path.name.startswith("."))
            self._paths = [path for path in entries if _suffix(path) in SUFFIXES]
            self._others = [path for path in entries if _suffix(path) not in SUFFIXES]
        else:
            self._paths, self._others = [self._root], []
            if _suffix(self._root) not in SUFFIXES:
                do = "Convert it to one of these; for CSV or JSON, write one JSON object a line."
                raise CorpusInvalid(
                    f"{self._root} has an unknown file type.", got=self._root.suffix or "no suffix", wanted=", ".join(SUFFIXES), do=do
                )
        if not self._paths:
            got = f"{len(self._others)} other files" if self._others else "an empty folder"
            raise CorpusInvalid(f"{self._root} holds nothing to read.", got=got, wanted=f"files of type {', '.join(SUFFIXES)}", do="Check the path.")

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self._paths:
            with path.open("rb") as handle:
                digest.update(f"{self._name(path)}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()[:16]

    def count(self) -> int | None:
        total = 0
        for path in self._paths:
            if path.suffix == ".gz":
                return None
            if path.suffix == ".jsonl":
                with path.open("rb") as handle:
                    total += sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))
            elif path.suffix == ".parquet":
                total += _parquet(path).metadata.num_rows
            else:
                total += 1
        return total

    def documents(self, *, progress: Progress | None = None) -> Iterator[Document | Unreadable]:
        for path in self._others:
            error = CorpusInvalid(f"{path} has an unknown file type.", got=path.suffix, wanted=", ".join(SUFFIXES), do="It is left out.")
            yield Unreadable(reason="file type", error=error)
        for path in self._paths:
            suffix = _suffix(path)
            if suffix == ".parquet":
                yield from self._parquet_rows(path)
            elif suffix == ".jsonl":
                yield from self._lines(path)
            else:
                yield self._whole(path)

    def _whole(self, path: Path) -> Document | Unreadable:
        with _opened(path) as handle:
            content = handle.read()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return _broken_utf8(str(path), error)
        return Document(content=text, title=self._name(path), source=self._name(path))

    def _lines(self, path: Path) -> Iterator[Document | Unreadable]:
        with _opened(path) as handle:
            for number in counting(1):
                line = handle.readline()
                if not line:
                    return
                if line.strip():
                    yield self._line(line, where=f"{path}, line {number}", source=self._name(path))

    def _line(self, line: bytes, *, where: str, source: str) -> Document | Unreadable:
        try:
            record = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            return _broken_utf8(where, error)
        except (ValueError, RecursionError) as error:
            return Unreadable(
                reason="broken JSON", error=CorpusInvalid(f"{where} is not JSON.", got=str(error), wanted="one object a line", do=_REPAIR)
            )
        return read_record(record, self._config, where=where, source=source)

    def _parquet_rows(self, path: Path) -> Iterator[Document | Unreadable]:
        file = _parquet(path)
        number = 0
        keys = (self._config.text_key, self._config.label_key, "title", "text", "messages")
        columns = [name for name in file.schema_arrow.names if name in keys] or None
        try:
            for batch in file.iter_batches(batch_size=1024, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield read_record(record, self._config, where=f"{path}, row {number}", source=self._name(path))
        except UnicodeDecodeError as error:
            raise _broken_utf8(f"{path}, after row {number}", error).error from error
        except (pa.ArrowException, OSError) as error:
            raise CorpusInvalid(f"{path} cannot be read to its end.", got=str(error), wanted="a whole Parquet file", do="Write it again.") from error

    def _name(self, path: Path) -> str:
        return path.name if path == self._root else path.relative_to(self._root).as_posix()


def read_record(record: object, config: CorpusConfig, *, where: str, source: str) -> Document | Unreadable:
    """`document_of`, with its error as a value."""
    if not isinstance(record, Mapping):
        error = CorpusInvalid(f"{where} is not an object.", got=type(record).__name__, wanted='{"text": …} or {"messages": […]}', do=_REPAIR)
        return Unreadable(reason="no text", error=error)
    try:
        return document_of(record, config, where=where, source=source)
    except CorpusInvalid as error:
        return Unreadable(reason="bad messages" if ".messages" in error.what or "turn" in error.what else "no text", error=error)


def _suffix(path: Path) -> str:
    return path.with_suffix("").suffix.lower() if path.suffix == ".gz" else path.suffix.lower()


def _opened(path: Path) -> BufferedIOBase:
    if path.suffix != ".gz":
        return path.open("rb")
    try:
        with gzip.open(path, "rb") as trial:
            while trial.read(1 << 20):
                pass
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusInvalid(f"{path} is not whole.", got=str(error), wanted="a gzip file", do="Copy it again.") from error
    return gzip.open(path, "rb")


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise CorpusInvalid(f"{path} is not a Parquet file.", got=str(error), wanted="Parquet", do="Write it again.") from error


def _broken_utf8(where: str, error: UnicodeDecodeError) -> Unreadable:
    got = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
    do = 'Convert it (for Latin-1: iconv -f latin1 -t utf8), or set invalid="skip" to leave it out.'
    return Unreadable(reason="broken UTF-8", error=CorpusInvalid(f"{where} is not UTF-8.", got=got, wanted="UTF-8", do=do))
