"""Links over a corpus of which only sums are kept equal those of an index of that corpus."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microtome.activations import Corpus, CorpusConfig, HarvestConfig, build_corpus, harvest
from microtome.errors import ArtifactConflict, FeatureNotFound, QueryInvalid, ShapeMismatch
from microtome.features import FeatureIndex, Summary, passes
from microtome.features.downstream import asked, downstream_scores, upstream_scores
from microtome.models import Site, tiny
from tests.features.small_set import EXACT, LAYERS, MadeSet

FEATURES = (3, 30, 52)


@pytest.fixture(scope="module")
def other(layers: MadeSet, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Another corpus than the index was made of."""
    source = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    texts = [f"the assistant said {word} to the user and {word} the world" for word in ("hello", "that", "was", "system") * 6]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    model = layers.base.model
    return build_corpus(model, CorpusConfig(source=str(source), context_length=16), out=layers.base.workspace.place("corpus", "other"))


@pytest.fixture(scope="module")
def on_other(layers: MadeSet, other: Corpus) -> FeatureIndex:
    """The index that a summary does without."""
    from microtome.features import build_index

    out = layers.base.workspace.place("index", "on-other")
    return build_index(layers.dictionary, None, corpus=other, model=layers.base.model, out=out, config=EXACT)


def _compare(index: FeatureIndex, over: Summary, whole: FeatureIndex, *, here: Any, there: Any) -> None:
    for scores in (downstream_scores, upstream_scores):
        ours = scores(index.store, asked(index.store, here), here, over=over)
        wanted = scores(whole.store, asked(whole.store, there), there)
        reached = wanted.weight != 0
        np.testing.assert_allclose(ours.twera, wanted.twera, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(ours.era, wanted.era, rtol=1e-5, atol=1e-9)
        assert ours.count[reached].tolist() == wanted.count[reached].tolist()


def test_a_summary_answers_as_an_index_of_that_corpus(
    layers: MadeSet, layers_index: FeatureIndex, on_other: FeatureIndex, *, other: Corpus, tmp_path: Path
) -> None:
    model = layers.base.model
    over = layers_index.summarise(FEATURES, corpus=other, model=model, out=tmp_path / "sums")
    assert over.kept == on_other.store.facts["kept"]
    for feature in FEATURES:
        _compare(layers_index, over, on_other, here=feature, there=feature)
        ours, wanted = layers_index.downstream(feature, over=over), on_other.downstream(feature)
        assert ours.n_tokens == wanted.n_tokens
        assert [link.feature for link in ours.promotes] == [link.feature for link in wanted.promotes]
        assert ours != layers_index.downstream(feature), "the index' own corpus says something else"


@pytest.mark.parametrize("site", [Site("resid_pre", 1), Site("mlp_in", 1)])
def test_so_does_one_of_directions(
    layers: MadeSet, layers_index: FeatureIndex, on_other: FeatureIndex, *, other: Corpus, site: Site, tmp_path: Path
) -> None:
    model = layers.base.model
    vector = layers.loaded.members[1].encoder_directions()[4]
    here, there = (each.component(site, vector, source=model, name="probe") for each in (layers_index, on_other))
    over = layers_index.summarise([here, 3], corpus=other, model=model, out=tmp_path / "sums")
    assert over.tokens(here) == len(there.positions)
    _compare(layers_index, over, on_other, here=here, there=there)
    signed = layers_index.component(site, vector, source=model, name="probe", signed=True)
    with pytest.raises(QueryInvalid, match="does not hold probe"):
        layers_index.downstream(signed, over=over)


def test_an_interrupted_summary_goes_on_to_the_same_sums(
    layers: MadeSet, layers_index: FeatureIndex, *, other: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plain = layers.base.model, passes.shard_ranges
    monkeypatch.setattr(passes, "shard_ranges", lambda corpus, tokens: plain(corpus, 64))  # several ranges of a small corpus
    whole = layers_index.summarise(FEATURES, corpus=other, model=model, out=tmp_path / "whole")
    seen: list[float] = []

    def stop(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        seen.append(done)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layers_index.summarise(FEATURES, corpus=other, model=model, out=tmp_path / "cut", progress=stop)
    assert seen[0] < other.n_tokens
    resumed = layers_index.summarise(FEATURES, corpus=other, model=model, out=tmp_path / "cut")
    assert (resumed.path / "sums.safetensors").read_bytes() == (whole.path / "sums.safetensors").read_bytes()
    assert sorted(file.name for file in resumed.path.glob("[!.]*")) == ["manifest.json", "summary.json", "sums.safetensors"]
    assert layers_index.summarise(FEATURES, corpus=other, model=model, out=tmp_path / "cut").id == resumed.id


def test_unfit_summaries_are_refused(layers: MadeSet, layers_index: FeatureIndex, index: FeatureIndex, *, other: Corpus, tmp_path: Path) -> None:
    model = layers.base.model
    for wrong in ([], [3, 3]):
        with pytest.raises(QueryInvalid, match="no components"):
            layers_index.summarise(wrong, corpus=other, model=model, out=tmp_path / "none")
    with pytest.raises(FeatureNotFound):
        layers_index.summarise([10**6], corpus=other, model=model, out=tmp_path / "none")
    with pytest.raises(ShapeMismatch, match="another model"):
        layers_index.summarise([3], corpus=other, model=tiny("llama", seed=9), out=tmp_path / "none")
    with pytest.raises(ShapeMismatch, match="shards are of another corpus"):
        layers_index.summarise([3], corpus=other, model=model, out=tmp_path / "none", shards=layers.shards)
    assert not (tmp_path / "none").exists()
    over = layers_index.summarise([3], corpus=other, model=model, out=tmp_path / "three")
    with pytest.raises(QueryInvalid, match="do not say what is silenced"):
        layers_index.downstream(3, over=over, model=model)
    with pytest.raises(QueryInvalid, match="does not hold feature 4"):
        layers_index.downstream(4, over=over)
    with pytest.raises(ShapeMismatch, match="another dictionary"):
        index.downstream(3, over=over)


def test_norms_that_only_one_side_has_measured_are_refused(layers: MadeSet, layers_index: FeatureIndex, tmp_path: Path) -> None:
    model, corpus = layers.base.model, layers.base.corpus
    sites = tuple(Site("mlp_in", layer) for layer in range(LAYERS))
    bare = harvest(model, corpus, config=HarvestConfig(sites=sites, dtype="float32"), out=tmp_path / "bare")
    with pytest.raises(ShapeMismatch, match="norms' scales"):
        layers_index.summarise([3], corpus=corpus, model=model, out=tmp_path / "sums", shards=bare)


def test_a_summary_is_of_its_source(layers: MadeSet, layers_index: FeatureIndex, tmp_path: Path) -> None:
    model, corpus = layers.base.model, layers.base.corpus

    def stop(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layers_index.summarise([3], corpus=corpus, model=model, out=tmp_path / "sums", shards=layers.shards, progress=stop)
    with pytest.raises(ArtifactConflict):  # its ranges are others
        layers_index.summarise([3], corpus=corpus, model=model, out=tmp_path / "sums")


def test_shards_give_the_same_as_the_forward(layers: MadeSet, layers_index: FeatureIndex, tmp_path: Path) -> None:
    model, corpus = layers.base.model, layers.base.corpus
    over = layers_index.summarise(FEATURES, corpus=corpus, model=model, out=tmp_path / "shards", shards=layers.shards)
    for feature in FEATURES:
        _compare(layers_index, over, layers_index, here=feature, there=feature)
