"""An index of several dictionaries: one forward for all, one numbering, and each member's part as if it stood alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.errors import FeatureNotFound, ShapeMismatch, SiteNotFound
from microtome.features import FeatureIndex, build_index
from microtome.models import Model, Site, tiny
from tests.features.small_set import EXACT, LAYERS, D, MadeSet


class Killed(BaseException):
    """Stands for the process being killed."""


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file() and file.name not in (".lock", "manifest.json")}


def test_the_postings_of_all_members_equal_the_dense_activations(layers: MadeSet, layers_index: FeatureIndex) -> None:
    postings = layers_index.store.postings
    wanted = layers.dense(postings.keep())
    for feature in range(layers_index.n_features):
        firings = postings.feature(feature)
        np.testing.assert_array_equal(firings.positions, np.flatnonzero(wanted[:, feature]))
        np.testing.assert_allclose(firings.values, wanted[firings.positions, feature], rtol=1e-4)


def test_every_context_is_run_once_for_all_layers(layers: MadeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    real = Model.capture

    def counted(self: Model, tokens: torch.Tensor, *args: object, **options: object) -> object:
        rows.append(len(tokens))
        return real(self, tokens, *args, **options)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(Model, "capture", counted)
    layers.build("counted")
    assert sum(rows) == len(layers.base.corpus.context_start) - 1


def test_a_forward_and_shards_of_all_sites_give_the_same_index(layers: MadeSet, layers_index: FeatureIndex) -> None:
    stored = layers.build("from-shards", shards=layers.shards)
    from_forward, from_shards = _bytes(layers_index.path), _bytes(stored.path)
    assert from_forward.keys() == from_shards.keys()
    for name, content in from_forward.items():
        if name != "index.json":  # it tells the ranges, which follow the shards
            assert content == from_shards[name], name


def test_a_killed_build_of_a_set_resumes_to_the_same_bytes(layers: MadeSet, layers_index: FeatureIndex, *, tmp_path: Path) -> None:
    def kill(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        if step == "describe the features":
            raise Killed

    base, out = layers.base, tmp_path / "indexes" / "killed"
    with pytest.raises(Killed):
        build_index(layers.dictionary, corpus=base.corpus, model=base.model, out=out, config=EXACT, progress=kill)
    build_index(layers.dictionary, corpus=base.corpus, model=base.model, out=out, config=EXACT, workspace=base.workspace)
    assert _bytes(out) == _bytes(layers_index.path)


def test_a_feature_is_found_by_site_and_number(layers_index: FeatureIndex) -> None:
    assert layers_index.sites == tuple(Site("mlp_in", layer) for layer in range(LAYERS))
    assert layers_index.n_features == LAYERS * D
    for feature in range(layers_index.n_features):
        place = layers_index.place(feature)
        assert layers_index.feature(place.site, place.number) == feature
    assert layers_index.feature("L2.mlp_in", 3) == 2 * D + 3
    with pytest.raises(SiteNotFound, match=r"L2\.mlp_in"):
        layers_index.feature("L3.mlp_in", 0)
    with pytest.raises(FeatureNotFound, match=rf"0 … {D - 1}"):
        layers_index.feature("L1.mlp_in", D)


def test_the_table_the_card_and_the_overview_say_the_site(layers_index: FeatureIndex) -> None:
    page = layers_index.table(filter='site = "L1.mlp_in"', limit=1000)
    assert [row.feature for row in page.rows] == list(range(D, 2 * D))
    assert {row.site for row in page.rows} == {"L1.mlp_in"}
    card = layers_index.card(D + 5)
    assert (card.site, card.number) == ("L1.mlp_in", 5)
    assert all(D <= near.feature < 2 * D for near in card.neighbours), "neighbours are sought in the same dictionary"
    assert layers_index.overview().sources["reads"] == "3 sites, L0.mlp_in to L2.mlp_in"


def test_the_logits_of_a_cross_layer_feature_are_those_of_all_it_writes(cross: MadeSet, cross_index: FeatureIndex) -> None:
    dictionary = cross.loaded.members[0]
    total = sum((dictionary.direction(2, write=site) for site in dictionary.writes), torch.zeros(dictionary.d_out))
    logits = cross.base.model.unembed() @ torch.nn.functional.normalize(total, dim=0)
    for entry in cross_index.card(2).logits.top:
        assert entry.logit == pytest.approx(float(logits[entry.token]), abs=1e-4)
    assert cross_index.card(2).statistics.decoder_norm == pytest.approx(float(total.norm()), rel=1e-5)


def test_a_typed_text_is_read_at_every_site(layers: MadeSet, layers_index: FeatureIndex) -> None:
    search = layers_index.search(layers.base.model, "the ship was on the sea", limit=1000)
    assert {layers_index.place(hit.feature).site for hit in search.hits} == set(layers_index.sites)
    corpus = layers.base.corpus
    span = corpus.span(0)
    tokens = torch.from_numpy(np.asarray(corpus.tokens[span.start : span.start + 9]).astype(np.int64))[None]
    inputs = {site: x[0] for site, x in layers.base.model.capture(tokens, layers_index.sites).items()}
    codes = layers_index.store.members.encode(inputs)
    rows = layers_index.store.postings.rows(start=span.start, end=span.start + 9)
    for token in np.flatnonzero(rows.keep).tolist():
        stored, now = (slice(int(each.indptr[token]), int(each.indptr[token + 1])) for each in (rows, codes))
        positive = codes.values[now] > 0
        np.testing.assert_array_equal(codes.ids[now][positive], rows.ids[stored])


def test_another_model_or_width_is_refused(layers: MadeSet, tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatch, match=r"does not fit at L0\.mlp_in"):
        build_index(layers.dictionary, corpus=layers.base.corpus, model=tiny("llama", d_model=16), out=tmp_path / "x")
