"""Lists, verdicts and notes: kept by index, found by filters, exported whole."""

import csv
import io
from pathlib import Path

import pytest

from microtome.config import to_dict
from microtome.errors import FeatureNotFound, QueryInvalid, WorkspaceReadOnly
from microtome.features import Catalogue, FeatureIndex, kept_csv
from microtome.features.query import select
from tests.features.locked import lock
from tests.features.small_store import Made


@pytest.fixture
def mine(made: Made, tmp_path: Path) -> FeatureIndex:
    """The small index with a catalogue of its own."""
    opened = made.build("small")
    opened.store.catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    return opened


def test_a_list_is_a_column_of_the_table_and_goes_without_its_features(mine: FeatureIndex) -> None:
    mine.change_list(" dates ", add=[3, 5, 3])
    mine.change_list("years", add=[5])
    mine.change_list("dates", add=[7], remove=[3])
    assert {each.name: each.features for each in mine.kept().lists} == {"dates": (5, 7), "years": (5,)}
    assert mine.select(filter='list = "dates"') == (5, 7)
    assert mine.select(filter="list ~ year or list = DATES") == (5, 7)
    assert mine.select(filter='not list = "dates" and feature < 8') == (0, 1, 2, 3, 4, 6)
    assert [row.feature for row in mine.table(filter='list = "years"').rows] == [5]
    assert mine.card(5).lists == ("dates", "years")
    mine.drop_list("dates")
    assert [each.name for each in mine.kept().lists] == ["years"]
    assert mine.select(filter='list = "dates"') == ()
    for name in ("", "a\nb", "x" * 81):
        with pytest.raises(QueryInvalid, match="cannot be called"):
            mine.change_list(name, add=[1])
    with pytest.raises(FeatureNotFound):
        mine.change_list("dates", add=[1, 6400])
    with pytest.raises(QueryInvalid, match="no column"):
        mine.table(sort="list")


def test_a_list_that_is_not_there_is_named_and_not_made(mine: FeatureIndex) -> None:
    with pytest.raises(QueryInvalid, match="nothing to choose"):
        mine.drop_list("dates")
    mine.change_list("dates", add=[3, 5])
    for change in (lambda: mine.change_list("dats", remove=[3]), lambda: mine.drop_list(" dats ")):
        with pytest.raises(QueryInvalid, match='no list "dats"') as error:
            change()
        assert error.value.do == 'Did you mean "dates"?'
    assert [each.name for each in mine.kept().lists] == ["dates"]
    mine.change_list("dates", remove=[7])
    assert mine.kept().lists[0].features == (3, 5), "what is not on a list may be taken off it"
    mine.change_list("years", add=[7], remove=[8])
    assert mine.kept().lists[1].features == (7,)


def test_a_verdict_is_one_of_few_and_can_be_taken_back(mine: FeatureIndex) -> None:
    mine.set_verdict(4, verdict="partly")
    mine.set_verdict(4, verdict="wrong")
    assert mine.select(filter="verdict = wrong") == (4,)
    assert mine.card(4).verdict == "wrong"
    mine.set_verdict(4, verdict="")
    assert mine.select(filter='verdict != ""') == ()
    with pytest.raises(QueryInvalid, match="no verdict"):
        mine.set_verdict(4, verdict="hold")


def test_the_export_has_all_that_was_said_and_nothing_else(mine: FeatureIndex) -> None:
    hostile = '=1+2, "quoted"\nand a line <b>'
    mine.set_label(9, text="my label")
    mine.add_note(2, text=hostile)
    mine.add_note(2, text="more")
    mine.change_list("some", add=[2])
    mine.set_verdict(6, verdict="holds")
    found = mine.kept()
    assert [each.feature for each in found.features] == [2, 6, 9]
    assert to_dict(found)["features"][0]["notes"][0]["text"] == hostile
    rows = list(csv.DictReader(io.StringIO(kept_csv(found))))
    assert [row["feature"] for row in rows] == ["2", "6", "9"]
    assert rows[0]["notes"] == f"{hostile}\nmore"
    assert (rows[0]["lists"], rows[1]["verdict"], rows[2]["label"], rows[2]["origin"]) == ("some", "holds", "my label", "user")
    assert float(rows[1]["density"]) == mine.card(6).statistics.density


def test_another_index_has_its_own_and_a_locked_workspace_keeps_nothing(tmp_path: Path, locked_folder: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    catalogue.change_list("one", "dates", add=[1])
    catalogue.set_verdict("one", 1, verdict="holds")
    assert catalogue.lists("two") == {}
    assert catalogue.verdicts("two") == {}
    locked = locked_folder / "catalogue.sqlite"
    Catalogue(locked).change_list("one", "dates", add=[1])
    lock(locked_folder)
    copy = Catalogue(locked)
    assert copy.lists("one")["dates"][1] == (1,)
    with pytest.raises(WorkspaceReadOnly):
        copy.change_list("one", "dates", add=[2])


def test_a_column_of_several_texts_compares_if_one_does() -> None:
    columns = {"list": [("a", "b"), (), ("B",)]}
    assert select(columns, "list = b").tolist() == [True, False, True]
    assert select(columns, "list != b").tolist() == [False, True, False]
    assert select(columns, "list ~ a").tolist() == [True, False, False]
