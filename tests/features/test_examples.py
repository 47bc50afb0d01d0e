"""Examples: brute-force argmax per document, near-duplicates collapsed, slices of equal count."""

import numpy as np
import numpy.typing as npt

from microtome.features import FeatureIndex
from microtome.features.blocks import Block
from microtome.features.context import surroundings
from microtome.features.examples import slice_of, slices
from microtome.features.postings import Firings
from tests.features.small_store import CONFIG, D_DICT, Made


def _neighbourhood(made: Made, position: int) -> tuple[int, ...]:
    """The tokens that decide whether two windows are near-duplicates: 6 before to 2 after, within the document."""
    doc = made.corpus.span(int(made.corpus.doc_of([position])[0]))
    return tuple(int(made.corpus.tokens[i]) if doc.start <= i < doc.end else -1 for i in range(position - 6, position + 3))


def _brute_force(made: Made, column: npt.NDArray[np.float32]) -> tuple[list[int], list[int]]:
    bests: list[int] = []
    for doc in range(made.corpus.n_docs):
        span = made.corpus.span(doc)
        part = column[span.start : span.end]
        if part.max() > 0:
            bests.append(span.start + int(part.argmax()))
    bests.sort(key=lambda position: (-column[position], position))
    kept: dict[tuple[int, ...], int] = {}
    duplicates: dict[int, int] = {}
    for position in bests:
        near = _neighbourhood(made, position)
        first = kept.setdefault(near, position)
        duplicates[first] = duplicates.get(first, -1) + 1
    positions = list(kept.values())[: CONFIG.top_examples]
    return positions, [duplicates[position] for position in positions]


def test_top_examples_are_the_best_of_each_document(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    collapsed = 0
    for feature in range(D_DICT - 2):
        positions, duplicates = _brute_force(made, dense[:, feature])
        top = index.card(feature).top
        assert [window.start + window.peak for window in top] == positions
        assert [window.duplicates for window in top] == duplicates
        collapsed += sum(duplicates)
    assert collapsed > 0, "the corpus holds repeats, so some windows must have been collapsed"


def test_a_window_shows_what_is_there(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    for window in index.card(5).top:
        end = window.start + len(window.pieces)
        span = made.corpus.span(window.doc)
        assert span.start <= window.start < end <= span.end
        assert window.offset == window.start - span.start
        assert window.activations == tuple(dense[window.start : end, 5].tolist())
        assert window.activation == window.activations[window.peak]
        whole = made.model.tokenizer.decode_pieces(made.corpus.tokens[span.start : span.end].tolist())
        first = window.offset
        assert list(window.pieces[:-1]) == whole[first : first + len(window.pieces) - 1]
        assert window.title == made.corpus.title(window.doc)


def test_strata_are_equal_and_half_open_and_none_is_without_an_example(index: FeatureIndex, dense: npt.NDArray[np.float32]) -> None:
    for feature in range(D_DICT - 2):
        card = index.card(feature)
        active = dense[:, feature][dense[:, feature] > 0]
        weakest_first = card.strata[::-1]
        assert sum(stratum.count for stratum in card.strata) == len(active)
        for stratum in weakest_first:
            last = stratum is weakest_first[-1]
            assert stratum.count == ((active >= stratum.low) & ((active <= stratum.high) if last else (active < stratum.high))).sum()
            assert stratum.examples, "a rare feature's firings are all at the top, and in their slices too"
            docs = [window.doc for window in stratum.examples]
            assert len(docs) == len(set(docs)) <= CONFIG.stratum_examples
            for window in stratum.examples:
                assert stratum.low <= window.activation <= stratum.high


def _one(values: npt.NDArray[np.float32]) -> Block:
    return Block.of(Firings(positions=np.arange(len(values)), values=values))


def test_slices_have_equal_counts_without_ties() -> None:
    values = np.random.default_rng(0).permutation(1000).astype(np.float32)
    cut = slices(_one(values), n=5)
    assert cut.counts.values.tolist() == [200] * 5
    assert np.bincount(slice_of(values, cut.edges.values)).tolist() == [200] * 5
    assert cut.of.tolist() == slice_of(values, cut.edges.values).tolist()


def test_ties_stay_together() -> None:
    cut = slices(_one(np.array([1, 1, 1, 1, 2, 3], dtype=np.float32)), n=3)
    assert cut.edges.values.tolist() == [1, 2, 3]
    assert cut.counts.values.tolist() == [4, 2]
    assert slices(_one(np.ones(4, dtype=np.float32)), n=3).counts.values.tolist() == [4]


def test_examples_of_one_split_come_from_it(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    for split in range(3):
        name = ("train", "dev", "test")[split]
        found = index.examples(2, split=name, limit=1000)
        assert {window.split for window in found} == {name}
        docs = made.corpus.doc_of(np.flatnonzero(dense[:, 2]))
        mine = docs[made.corpus.splits[docs] == split]
        assert {window.doc for window in found} <= set(mine.tolist())
        assert sum(1 + window.duplicates for window in found) == len(set(mine.tolist()))


def test_examples_of_one_slice_lie_in_it(index: FeatureIndex) -> None:
    weakest = index.card(2).strata[-1]
    found = index.examples(2, stratum=0, split="train")
    assert found
    assert all(weakest.low <= window.activation < weakest.high and window.split == "train" for window in found)


def test_surroundings_do_not_cross_documents() -> None:
    tokens, doc = np.array([1, 2, 3, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1])
    hashes = surroundings(tokens, doc)
    assert (hashes[:3] == hashes[3:]).all()
    assert len(set(hashes.tolist())) == 3
