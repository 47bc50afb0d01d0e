"""Rows of turns: turn-averaged, nested and decoupled dictionaries train, and what they need is asked for by name."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from microtome.activations import (
    Corpus,
    CorpusConfig,
    HarvestConfig,
    Pooled,
    PoolingConfig,
    Shards,
    TurnPairs,
    TurnPairStream,
    build_corpus,
    harvest,
    pool,
)
from microtome.dictionaries import BatchTopK, Dictionary
from microtome.errors import ConfigError
from microtome.models import tiny
from microtome.training import Nested, train
from microtome.training.source import rows_of
from tests.training.planted import SITE, small_config


class Chats(NamedTuple):
    shards: Shards
    corpus: Corpus
    turns: Pooled


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Chats:
    folder = tmp_path_factory.mktemp("chats")
    model = tiny("llama")
    said = [
        [{"role": "user", "content": f"what is {n} and {n % 5}"}, {"role": "assistant", "content": f"it is {n * n} {'really ' * (n % 3)}so"}]
        for n in range(120)
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in said))
    config = CorpusConfig(source=str(folder / "chats.jsonl"), context_length=64, split=(0.5, 0.2, 0.3))
    corpus = build_corpus(model, config, out=folder / "corpus")
    shards = harvest(model, corpus, config=HarvestConfig(sites=(SITE,), dtype="float32"), out=folder / "shards")
    return Chats(shards, corpus, pool(shards, corpus, config=PoolingConfig(over="turn"), out=folder / "turns"))


def test_a_turn_averaged_dictionary_learns_from_one_row_a_turn(chats: Chats, tmp_path: Path) -> None:
    config = small_config(pooling="turn", nonlinearity=BatchTopK(k=3), batch_size=32, tokens=100 * 32)
    trained = train(chats.shards, chats.corpus, config=config, out=tmp_path / "d", turns=chats.turns)
    assert isinstance(trained.dictionary, Dictionary)
    assert trained.dictionary.pooling == "turn"
    assert trained.quality.fvu.value < min(0.9, trained.quality.fvu.baselines["random"])
    assert trained.quality.tokens < chats.turns.n_rows


def test_a_nested_dictionarys_prefix_reconstructs_the_turns_mean(chats: Chats, tmp_path: Path) -> None:
    """Beside one trained without it, the prefix comes nearer to the turn's mean."""
    errors: list[float] = []
    pairs = _pairs(chats)
    for name, losses in (("nested", (Nested(prefix=16),)), ("plain", ())):
        config = small_config(losses=losses, tokens=100 * 128)
        dictionary = train(chats.shards, chats.corpus, config=config, out=tmp_path / name, turns=chats.turns).dictionary
        assert isinstance(dictionary, Dictionary)
        codes = dictionary.encode(pairs.rows.float())
        prefix = type(codes)(codes.indices, codes.values * (codes.indices < 16), codes.d_dict)
        errors.append(float((dictionary.decode(prefix) - pairs.means).square().mean()))
    assert errors[0] < 0.8 * errors[1]


def test_the_other_half_of_a_decoupled_pair_reads_tokens_less_their_turns_mean(chats: Chats, tmp_path: Path) -> None:
    config = small_config(pooling="residual", tokens=100 * 128)
    pairs = _pairs(chats)
    taken = rows_of(pairs, config, device=torch.device("cpu"))
    torch.testing.assert_close(taken.rows[SITE], pairs.rows.float() - pairs.means)
    trained = train(chats.shards, chats.corpus, config=config, out=tmp_path / "d", turns=chats.turns)
    assert isinstance(trained.dictionary, Dictionary)
    assert trained.dictionary.pooling == "residual"
    assert trained.quality.fvu.value < 0.9


@pytest.mark.parametrize("changes", [{"pooling": "turn"}, {"pooling": "residual"}, {"losses": (Nested(prefix=8),)}])
def test_rows_of_turns_are_asked_for_where_they_are_missing(chats: Chats, tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="turns="):
        train(chats.shards, chats.corpus, config=small_config(**changes), out=tmp_path / "d")


def _pairs(chats: Chats) -> TurnPairs:
    stream = TurnPairStream(chats.shards, chats.corpus, turns=chats.turns, site=SITE, batch_size=200, seed=0, split="test")
    return next(stream)
