"""Small corpora in the forms that users bring."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from activations.texts import Build, WriteLines

from microtome.activations import Corpus, CorpusConfig, build_corpus
from microtome.models import Model, tiny


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
