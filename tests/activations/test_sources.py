"""Every kind of source gives its documents; what cannot be read is named by file and line."""

import gzip
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from activations.texts import WriteLines

from microtome.activations import SOURCES, CorpusConfig, Document, Unreadable, open_source
from microtome.carriers import CARRIERS, Carrier
from microtome.conversation import Conversation
from microtome.errors import CorpusInvalid, CorpusNotFound, DependencyMissing

CHAT = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good morning."}]


def documents(source: Path | str, **fields: str) -> list[Document]:
    found = records(source, **fields)
    assert all(isinstance(record, Document) for record in found)
    return [record for record in found if isinstance(record, Document)]


def records(source: Path | str, **fields: str) -> list[Document | Unreadable]:
    return list(open_source(CorpusConfig(source=str(source), text_key=fields.get("text_key"), label_key=fields.get("label_key"))).documents())


def problem(source: Path | str, **fields: str) -> Unreadable:
    found = [record for record in records(source, **fields) if isinstance(record, Unreadable)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.TXT", "a.txt.gz"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    content = "\ufeffTwo lines,\none document.\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert documents(tmp_path / name) == [Document(content="Two lines,\none document.\n", title=name, source=name)]


def test_a_line_is_a_record_and_only_a_newline_ends_it(jsonl: WriteLines) -> None:
    texts = ["a\u2028b", "c\x85d", "e\nf", "g\x0ch"]
    assert [document.content for document in documents(jsonl([{"text": text} for text in texts]))] == texts


def test_gzipped_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n\n{"text": "two"}'))
    assert [document.content for document in documents(path)] == ["one", "two"]


def test_fields_are_chosen_by_name(jsonl: WriteLines) -> None:
    path = jsonl([{"body": "a story", "kind": 7, "title": "T"}])
    assert documents(path, text_key="body", label_key="kind") == [Document(content="a story", title="T", label="7", source="texts.jsonl")]


def test_parquet_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["one", "two"], "topic": ["x", None], "unused": [1, 2]}), path)
    assert [(document.content, document.label) for document in documents(path, label_key="topic")] == [("one", "x"), ("two", "")]


@pytest.mark.parametrize("key", ["messages", "talk"])
def test_chats(jsonl: WriteLines, key: str) -> None:
    foreign = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Good morning."}]
    for document in documents(jsonl([{key: CHAT}, {key: foreign}]), text_key=key):
        assert isinstance(document.content, Conversation)
        assert document.content.to_messages() == CHAT


def test_a_folder_is_read_in_order_of_path_and_other_types_are_counted(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("z.txt", "b/a.md", ".hidden.txt", "picture.png"):
        (tmp_path / name).write_text(name)
    found = records(tmp_path)
    assert [record.title for record in found if isinstance(record, Document)] == ["b/a.md", "z.txt"]
    assert [record.reason for record in found if isinstance(record, Unreadable)] == ["file type"]


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = open_source(CorpusConfig(source=str(path))).fingerprint()
    path.write_text("two")
    assert open_source(CorpusConfig(source=str(path))).fingerprint() != first


def test_broken_utf8_is_named_by_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    found = problem(path)
    assert found.reason == "broken UTF-8"
    assert "line 2" in found.error.what
    assert "0xe9 at offset 13" in str(found.error.got)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    assert problem(tmp_path / "a.txt").reason == "broken UTF-8"


@pytest.mark.parametrize(
    ("line", "reason", "says"),
    [
        ('{"text": "cut', "broken JSON", "line 1 is not JSON"),
        ("[1, 2]", "no text", "is not an object"),
        ('{"txet": "a"}', "no text", 'Did you mean "txet"?'),
        ('{"text": 5}', "no text", "neither a text nor a list of messages"),
        ('{"text": "half \\ud800 pair"}', "no text", "half a surrogate pair"),
        ('{"messages": [{"content": "who says this?"}]}', "bad messages", "messages[0] has no role"),
        ('{"messages": [{"role": "asistant", "content": "?"}]}', "bad messages", 'Did you mean "assistant"?'),
        ('{"messages": []}', "bad messages", "not a list of turns"),
        ('{"messages": ["hi"]}', "bad messages", "messages[0] is not a turn"),
        ("[" * 100_000, "broken JSON", "is not JSON"),
    ],
)
def test_a_broken_record_says_what_is_wrong(tmp_path: Path, *, line: str, reason: str, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    found = problem(path)
    assert found.reason == reason
    assert says in str(found.error)


@pytest.mark.parametrize(("key", "field"), [("text_key", "boby"), ("label_key", "lable")])
def test_an_unknown_key_names_the_nearest(jsonl: WriteLines, key: str, field: str) -> None:
    path = jsonl([{"text": "a", "body": "b", "label": "c"}])
    nearest = {"boby": "body", "lable": "label"}[field]
    assert f'Did you mean "{nearest}"?' in str(problem(path, **{key: field}).error)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.parquet"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(b"text " * 1000)[:-10])
    else:
        pq.write_table(pa.table({"text": ["one"] * 1000}), path)
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorpusInvalid, match=name):
        records(path)


def test_what_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "stories.jsonl").write_text("")
    with pytest.raises(CorpusNotFound, match=r"stories\.jsonl"):
        records(tmp_path / "storys.jsonl")
    with pytest.raises(CorpusNotFound, match='Did you mean "wiki"'):
        records("wikki")


def test_types_and_folders_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(CorpusInvalid, match="unknown file type"):
        records(tmp_path / "table.csv")
    with pytest.raises(CorpusInvalid, match="1 other files"):
        records(tmp_path)


PACKAGED = {
    "wiki": {"Basalt": {"title": "Basalt", "extract": "Basalt is a rock.", "description": "", "topic": "Physical sciences"}},
    "recipes": [{"title": "Toast", "category": ["Breakfast"], "ingredients": ["bread"], "steps": ["Toast it."]}],
    "chitchat": {
        "a chat of four": {"messages": [[{"text": text, "sender": sender}] for text, sender in (("Hi", 1), ("Hey", 2), ("So", 1), ("Yes", 2))]},
        "a greeting": {"messages": [[{"text": "Hi", "sender": 1}], [{"text": "Hey", "sender": 2}]]},
    },
}


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_texts_are_read_from_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = CARRIERS.get(name)
    wheel = tmp_path / "carriers" / real.filename
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(real.member, json.dumps(PACKAGED[name]))
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fake = Carrier(
        name=name,
        package=real.package,
        version=real.version,
        filename=real.filename,
        sha256=sha256,
        bytes=wheel.stat().st_size,
        licence=real.licence,
        member=real.member,
    )
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path))
    monkeypatch.setattr(CARRIERS, "get", lambda _: fake)
    [document] = documents(name)
    if name == "chitchat":
        assert isinstance(document.content, Conversation)
        assert [turn.role for turn in document.content.turns] == ["user", "assistant"] * 2
    else:
        wanted = {"wiki": ("Basalt is a rock.", "Physical sciences"), "recipes": ("Toast\n\nbread\n\nToast it.", "Breakfast")}
        assert (document.content, document.label) == wanted[name]


@pytest.mark.network
@pytest.mark.parametrize("name", PACKAGED)
def test_the_real_packages_hold_as_many_as_they_say(name: str) -> None:
    source = open_source(CorpusConfig(source=name))
    assert sum(1 for _ in source.documents()) == source.count()


def test_a_dataset_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the hub's layout stands for the hub."""
    datasets = pytest.importorskip("datasets", reason="the extra microtome[datasets] is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "stories"
    folder.mkdir()
    for split in ("test", "train"):
        pq.write_table(pa.table({"text": [f"{split} one", f"{split} two"], "topic": ["x", "y"]}), folder / f"{split}.parquet")
    config = CorpusConfig(source=str(folder), label_key="topic")
    source = SOURCES.get("hub")(config)
    assert source.count() == 2
    assert [(record.content, record.label) for record in source.documents() if isinstance(record, Document)] == [
        ("train one", "x"),
        ("train two", "y"),
    ]
    with pytest.raises(CorpusNotFound, match="cannot be loaded from the hub"):
        SOURCES.get("hub")(CorpusConfig(source="nobody/nothing")).fingerprint()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DependencyMissing, match=r"microtome\[datasets\]"):
        open_source(CorpusConfig(source="org/name")).fingerprint()
