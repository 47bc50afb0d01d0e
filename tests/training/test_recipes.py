"""Recipes: from text to a measured set of dictionaries, with rows that were never stored."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from microtome.activations import Corpus, CorpusConfig, ForwardConfig, ForwardStream, HarvestConfig, build_corpus, harvest
from microtome.dictionaries import DictionarySet, TopK
from microtome.errors import ConfigError
from microtome.models import Model, Site, tiny
from microtome.training import RECIPES, FromForward, RecipeOut, StoredRows, TrainConfig, TrainRecipe, run_recipe

READS, WRITES = (Site("mlp_in", 0), Site("mlp_in", 1)), (Site("mlp_out", 0), Site("mlp_out", 1))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", seed=3)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = re.findall(r"\w+", "the ship sailed north to a cold sea and an old captain wrote letters about rivers birds stones")
    folder = tmp_path_factory.mktemp("texts")
    for number in range(40):
        (folder / f"{number}.txt").write_text(" ".join(words[(number * 7 + place * (1 + number % 5)) % len(words)] for place in range(30)))
    return str(folder)


@pytest.fixture(scope="module")
def corpus(model: Model, text: str, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build_corpus(model, corpus_config(text), out=tmp_path_factory.mktemp("made") / "corpus")


def corpus_config(text: str) -> CorpusConfig:
    return CorpusConfig(source=text, context_length=64, sink_norm_ratio=None)


def train_config() -> TrainConfig:
    return TrainConfig(kind="layers", reads=READS, writes=WRITES, nonlinearity=TopK(k=4), d_dict=32, tokens=6400, batch_size=64, lr=4e-3)


def recipe_of(text: str) -> TrainRecipe:
    return TrainRecipe(title="a small set", model="tiny:llama@3", corpus=corpus_config(text), train=train_config(), licence="none", expects="seconds")


def test_rows_of_the_forward_are_those_that_a_harvest_stores(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    shards = harvest(model, corpus, config=HarvestConfig(sites=(*READS, *WRITES)), out=tmp_path / "shards")
    stored = StoredRows(shards=shards, corpus=corpus).held(WRITES, pooling="token", n=200, split="test")
    computed = FromForward(model=model, corpus=corpus).held(WRITES, pooling="token", n=200, split="test")
    assert torch.equal(stored.docs, computed.docs)
    for site in WRITES:
        assert torch.equal(stored.rows[site], computed.rows[site])


def test_a_recipe_leads_from_text_to_a_set_measured_layer_by_layer(model: Model, text: str, tmp_path: Path) -> None:
    out = RecipeOut(corpus=tmp_path / "corpus", dictionary=tmp_path / "set")
    made = run_recipe(recipe_of(text), model, out=out)
    assert isinstance(made.dictionary, DictionarySet)
    assert made.dictionary.sites == READS
    assert [each.site for each in made.quality.by_site] == list(WRITES)
    for each in made.quality.by_site:
        assert each.fvu.value < 0.7 * each.fvu.baselines["random"]
        assert each.l0.value <= 4
    assert made.quality.ce_recovered is not None or made.quality.ce_undefined
    assert run_recipe(recipe_of(text), model, out=out).id == made.id


def test_a_recipe_that_is_killed_goes_on_and_ends_the_same(model: Model, text: str, tmp_path: Path) -> None:
    recipe = recipe_of(text)
    recipe = replace(recipe, train=replace(recipe.train, schedule=replace(recipe.train.schedule, checkpoint_every_tokens=640)))
    whole = run_recipe(recipe, model, out=RecipeOut(corpus=tmp_path / "corpus", dictionary=tmp_path / "whole"))

    class Killed(Exception):
        pass

    def die(record: object) -> None:
        if getattr(record, "step", 0) == 57:
            raise Killed

    out = RecipeOut(corpus=tmp_path / "corpus", dictionary=tmp_path / "again")
    with pytest.raises(Killed):
        run_recipe(recipe, model, out=out, callbacks=[die])
    assert run_recipe(recipe, model, out=out).id == whole.id


def test_rows_are_served_as_often_as_asked_and_computed_once(model: Model, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    captured = model.capture
    monkeypatch.setattr(model, "capture", lambda *given, **named: calls.append(1) or captured(*given, **named))
    stream = ForwardStream(model, corpus, sites=READS, batch_size=1, seed=0, config=ForwardConfig(passes=3))
    epoch = [next(stream)[READS[0]] for _ in range(stream.n_rows)]
    once = len(calls)
    again = [next(stream)[READS[0]] for _ in range(2 * stream.n_rows)]
    assert len(calls) == once
    assert stream.epoch == 1
    first, second = torch.cat(epoch), torch.cat(again[: stream.n_rows])
    assert not torch.equal(first, second)
    assert torch.equal(first.float().sum(1).sort().values, second.float().sum(1).sort().values)


def test_rows_of_turns_are_not_computed(model: Model, corpus: Corpus) -> None:
    config = TrainConfig(reads=(WRITES[0],), pooling="turn", d_dict=8, nonlinearity=TopK(k=2))
    with pytest.raises(ConfigError, match="stored"):
        FromForward(model=model, corpus=corpus, config=ForwardConfig()).check(config)


def test_every_recipe_is_whole_and_can_be_made_smaller() -> None:
    for name in RECIPES:
        recipe = RECIPES.get(name)
        assert recipe.licence
        assert recipe.expects
        small = recipe.smaller(layers=(1, 8), features=64, tokens=8000).train
        assert ([site.layer for site in small.reads], small.d_dict, small.tokens) == ([1, 8], 64, 8000)
        assert small.steps >= 8
