"""Small corpora in the forms that users bring."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from activations.texts import Build, WriteLines, words

from microtome.activations import Corpus, CorpusConfig, HarvestConfig, Shards, build_corpus, harvest
from microtome.models import Model, Site, tiny


@pytest.fixture(scope="session")
def model() -> Model:
    return tiny("llama")


@pytest.fixture
def jsonl(tmp_path: Path) -> WriteLines:
    """Writes records as a .jsonl file and gives its path."""

    def write(records: Sequence[Any]) -> Path:
        path = tmp_path / "texts.jsonl"
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8", newline="")
        return path

    return write


@pytest.fixture
def build(tmp_path: Path, model: Model) -> Build:
    """`build(path, field=value, …)`: the corpus of a file for the tiny model, in a fresh folder each time."""
    made: list[Corpus] = []

    def make(source: Path | str, **fields: Any) -> Corpus:
        settings: dict[str, Any] = {"context_length": 64, **fields}
        config = CorpusConfig(source=str(source), **settings)
        made.append(build_corpus(model, config, out=tmp_path / f"corpus-{len(made)}"))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Corpus:
    """40 conversations of four turns."""
    folder = tmp_path_factory.mktemp("chats")
    role = ("user", "assistant")
    talks = [[{"role": role[j % 2], "content": f"{words(i + j, 5 + j)} {i}"} for j in range(4)] for i in range(40)]
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return build_corpus(model, CorpusConfig(source=str(folder / "chats.jsonl"), context_length=64), out=folder / "corpus")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, model: Model, chats: Corpus) -> Shards:
    """Three sites of the conversations, in several shards."""
    sites = (Site("resid_post", 1), Site("mlp_out", 0), Site("embed"))
    out = tmp_path_factory.mktemp("shards") / "shards"
    made = harvest(model, chats, config=HarvestConfig(sites=sites, shard_tokens=900, dtype="float32"), out=out)
    assert len(made.ranges) > 2
    return made
