"""Questions to an opened index: table, documents, texts, labels, notebook views."""

import json
import re
import shutil
from graphlib import TopologicalSorter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from microtome.config import canonical_json
from microtome.errors import DocumentNotFound, FeatureNotFound, QueryInvalid, ShapeMismatch, WorkspaceReadOnly
from microtome.features import FeatureIndex
from microtome.models import tiny
from tests.features.locked import lock
from tests.features.small_store import D_DICT, SITE, Made, random_sae


def test_the_overview_counts_what_is_there(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    overview = index.overview()
    assert overview.counts["features"] == D_DICT
    assert overview.counts["dead"] == (dense.max(0) == 0).sum()
    assert overview.counts["dense"] == (((dense > 0).sum(0) / made.shards.keep.sum()) > 0.1).sum()
    assert overview.l0 == pytest.approx((dense > 0).sum() / made.shards.keep.sum())
    assert sum(overview.density.counts) == D_DICT - overview.counts["dead"] == sum(overview.f1.counts)
    assert sum(overview.splits.values()) == made.corpus.n_docs
    assert sum(overview.corpus_labels.values()) == overview.counts["kept"] == made.shards.n_kept
    assert overview.sources["model"] == made.model.ref


def test_the_table_sorts_filters_and_pages(index: FeatureIndex) -> None:
    whole = index.table(limit=D_DICT)
    assert [row.feature for row in whole.rows] == list(range(D_DICT))
    wanted = sorted((row for row in whole.rows if row.density > 0.01), key=lambda row: (-row.f1, row.feature))
    page = index.table(sort="f1", descending=True, filter="density > 1%", offset=2, limit=5)
    assert page.rows == tuple(wanted[2:7])
    assert page.total == len(wanted)
    by_label = [row.label.casefold() for row in index.table(sort="label", limit=D_DICT).rows]
    assert by_label == sorted(by_label)
    with pytest.raises(QueryInvalid) as caught:
        index.table(sort="densitty")
    assert caught.value.do == 'Did you mean "density"?'


def test_search_words_and_filters_go_together(index: FeatureIndex) -> None:
    found = index.table(search="token", filter="f1 > 0.4", limit=D_DICT)
    assert found.total > 0
    assert all("token" in row.label and row.f1 > 0.4 for row in found.rows)
    assert found.total == index.table(filter='f1 > 0.4 and label ~ "token"').total
    ordered = index.table(search="token", sort="density", descending=True, limit=D_DICT).rows
    assert [row.density for row in ordered] == sorted((row.density for row in ordered), reverse=True)


def test_a_persons_label_shows_everywhere(index: FeatureIndex) -> None:
    index.set_label(9, text="harbours at night")
    try:
        assert index.card(9).label.origin == "user"
        assert index.labels()[9] == "harbours at night"
        assert [row.feature for row in index.table(search="harbour").rows] == [9]
        assert [row.feature for row in index.table(filter="origin = user").rows] == [9]
    finally:
        index.set_label(9, text="")
    assert index.card(9).label.text == index.card(9).rule.text
    index.add_note(9, text="look again")
    assert index.card(9).notes[-1].text == "look again"


def test_a_document_lists_all_that_fires_in_it(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    largest = dense.max(0)
    for doc in (0, 7, 59):
        span = made.corpus.span(doc)
        part = dense[span.start : span.end]
        view = index.document(doc, rank="max", limit=D_DICT)
        assert "".join(view.pieces) == made.model.tokenizer.text(made.corpus.tokens[span.start : span.end].tolist())
        assert [f.feature for f in view.features] == sorted(np.flatnonzero(part.max(0)).tolist(), key=lambda f: (-part[:, f].max(), f))
        for found in view.features:
            assert found.offsets == tuple(np.flatnonzero(part[:, found.feature]).tolist())
            assert found.activations == tuple(part[list(found.offsets), found.feature].tolist())
            assert found.share_of_max == pytest.approx(found.max / largest[found.feature])
        shares = np.divide(part, largest, out=np.zeros_like(part), where=largest > 0)
        wanted = np.where(shares.max(1) > 0, shares.argmax(1), -1)
        assert view.strongest == tuple(wanted.tolist())
        assert view.kept == tuple(made.shards.keep[span.start : span.end].tolist())
        assert [(turn.role, turn.start, turn.end) for turn in view.turns] == [("text", 0, len(span))]


@pytest.mark.parametrize("rank", ["specific", "share", "max", "count"])
def test_ranks_order_by_their_score(index: FeatureIndex, rank: str) -> None:
    scores = [feature.score for feature in index.document(4, rank=rank).features]
    assert scores == sorted(scores, reverse=True)


def test_a_stretch_of_a_document_is_a_part_of_it(index: FeatureIndex) -> None:
    whole, part = index.document(10), index.document(10, offset=5, length=7)
    assert part.pieces == whole.pieces[5:12]
    assert part.strongest == whole.strongest[5:12]
    assert all(5 <= offset < 12 for feature in part.features for offset in feature.offsets)


def test_a_token_lists_all_its_features(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    position = made.corpus.span(6).start + 3
    found = index.token(6, offset=3)
    assert {f.feature: f.activation for f in found.features} == {int(f): float(dense[position, f]) for f in np.flatnonzero(dense[position])}
    shares = [f.share_of_max for f in found.features]
    assert shares == sorted(shares, reverse=True)
    for f in found.features:
        column = dense[:, f.feature][dense[:, f.feature] > 0]
        assert f.percentile == (column < f.activation).mean()


def test_documents_are_found_by_title_and_label(index: FeatureIndex) -> None:
    assert index.documents(search="sea 3").rows[0].title == "Sea 3"
    assert index.documents(search="FOOD").total == 20
    assert [row.doc for row in index.documents(offset=58).rows] == [58, 59]


def test_a_text_from_the_corpus_gives_what_a_direct_run_gives(index: FeatureIndex, made: Made) -> None:
    text = "the ship was on the sea"
    tokens = made.model.tokenizer.encode("\n") + made.model.tokenizer.encode(text)
    x = made.model.capture(torch.tensor([tokens]), [SITE])[SITE][0, 1:]
    codes = random_sae(made.model.width(SITE)).encode(x)
    full = torch.zeros(len(x), D_DICT).scatter_(1, codes.indices.long(), codes.values).half().float().numpy()
    found = index.search(made.model, text, rank="max", limit=D_DICT)
    assert "".join(found.pieces) == text
    assert {hit.feature for hit in found.hits} == set(np.flatnonzero(full.max(0)).tolist())
    for hit in found.hits:
        np.testing.assert_allclose(hit.activations, full[:, hit.feature], atol=1e-3)
        assert hit.peak == full[:, hit.feature].argmax()
    one = index.test(made.model, found.hits[0].feature, text=text)
    assert one.activations == found.hits[0].activations
    assert one.above_store == (one.max > index.card(one.feature).statistics.max)
    largest = index.card(one.feature).statistics.max
    np.testing.assert_allclose(one.shares_of_max, np.array(one.activations) / largest, rtol=1e-6)
    assert all(0 <= rank <= 1 for rank in one.percentiles)


def test_a_dead_feature_can_be_tested(index: FeatureIndex, made: Made) -> None:
    tested = index.test(made.model, D_DICT - 1, text="hello")
    assert (tested.max, tested.above_store, set(tested.percentiles)) == (0.0, False, {0.0})


def test_every_record_has_a_json_form(index: FeatureIndex, made: Made) -> None:
    records = [
        index.overview(),
        *(index.card(feature) for feature in range(D_DICT)),
        index.table(),
        index.documents(),
        index.document(0),
        index.token(0, offset=2),
        index.search(made.model, "hello 🦜"),
        index.test(made.model, 3, text="hello"),
        index.examples(1),
    ]
    for record in records:
        json.loads(canonical_json(record))


def test_what_is_not_there_is_named(index: FeatureIndex, made: Made) -> None:
    with pytest.raises(FeatureNotFound, match=f"no feature {D_DICT}"):
        index.card(D_DICT)
    with pytest.raises(DocumentNotFound):
        index.document(60)
    with pytest.raises(QueryInvalid, match="no such stretch"):
        index.document(0, offset=10_000)
    with pytest.raises(QueryInvalid, match="no token"):
        index.token(0, offset=-1)
    with pytest.raises(QueryInvalid, match="no slice 9"):
        index.examples(0, stratum=9)
    with pytest.raises(QueryInvalid) as caught:
        index.examples(0, split="tests")
    assert caught.value.do == 'Did you mean "test"?'
    with pytest.raises(QueryInvalid, match='no rank "best"'):
        index.document(0, rank="best")
    with pytest.raises(QueryInvalid, match="text is empty"):
        index.search(made.model, "")
    with pytest.raises(ShapeMismatch, match="another model"):
        index.search(tiny("gpt2"), "hello")


@pytest.mark.usefixtures("index")
def test_an_index_opens_in_a_workspace_that_cannot_be_written(made: Made, locked_folder: Path) -> None:
    shutil.copytree(made.workspace.path, locked_folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("catalogue.sqlite*"))
    lock(locked_folder)
    index = FeatureIndex.open(locked_folder / "indexes" / "small", locked_folder)
    found = index.table(search="token", limit=1)
    assert "token" in found.rows[0].label
    assert index.card(found.rows[0].feature).notes == ()
    with pytest.raises(WorkspaceReadOnly, match="cannot be written"):
        index.set_label(0, text="mine")


def test_no_file_of_the_room_imports_in_a_circle() -> None:
    room = Path(__import__("microtome.features").features.__file__).parent
    graph = {file.stem: set(re.findall(r"^\s*from microtome\.features\.(\w+) import", file.read_text(), re.M)) for file in room.glob("*.py")}
    TopologicalSorter(graph).prepare()


class _Outline(HTMLParser):
    """Tags of a page, to see that none came out of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_notebook_views_escape_the_data_and_ask_for_nothing(index: FeatureIndex) -> None:
    own = {"style", "div", "h3", "h4", "br", "table", "tr", "td", "code", "span", "svg", "rect"}
    index.set_label(4, text="<script>alert(1)</script>")
    try:
        pages = [index._repr_html_(), *(index.card(feature)._repr_html_() for feature in range(D_DICT))]
    finally:
        index.set_label(4, text="")
    for page in pages:
        outline = _Outline()
        outline.feed(page)
        assert outline.tags <= own
        assert outline.addresses == []
        assert not re.search(r"https?:|url\(|@import", page)
    assert "&lt;script&gt;" in pages[5]
