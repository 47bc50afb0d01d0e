"""The filter language."""

import numpy as np
import pytest

from microtome.errors import QueryInvalid
from microtome.features.query import select

COLUMNS = {
    "density": np.array([0.001, 0.02, 0.5, 0.0]),
    "f1": np.array([0.9, 0.2, 0.4, 0.0]),
    "label": ['the token " France"', "text about Law", "or and not", "never fires"],
}


@pytest.mark.parametrize(
    ("filter", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("density > 0.01", [1, 2]),
        ("density>=2%", [1, 2]),
        ("density > 1e-3 and f1 < 0.3", [1]),
        ("f1 >= 0.4 or density = 0", [0, 2, 3]),
        ("not f1 >= 0.4", [1, 3]),
        ("f1 != 0 and not (density < 0.01 or density > 0.1)", [1]),
        ('label ~ "FRANCE"', [0]),
        ("label !~ e", [2]),
        ("label ~ law or label ~ 'never'", [1, 3]),
        ('label = "or and not"', [2]),
        (r'label ~ "\" france\""', [0]),
        ("density > 0.01 OR label ~ never AND f1 = 0", [1, 2, 3]),
    ],
)
def test_filters_select_rows(filter: str, rows: list[int]) -> None:
    assert np.flatnonzero(select(COLUMNS, filter)).tolist() == rows


@pytest.mark.parametrize("opening", ["(", "not ", "not ("])
def test_what_nests_too_deeply_is_refused(opening: str) -> None:
    with pytest.raises(QueryInvalid, match="nests too deeply"):
        select(COLUMNS, opening * 5000 + "f1 > 0")
    flat = " or ".join(["(f1 > 0.5)"] * 500)
    assert np.flatnonzero(select(COLUMNS, flat)).tolist() == [0], "many that stand side by side are fine"
    assert np.flatnonzero(select(COLUMNS, "(" * 50 + "f1 > 0.5" + ")" * 50)).tolist() == [0]


@pytest.mark.parametrize(
    ("filter", "part", "says"),
    [
        ("densty > 0.1", "do", 'Did you mean "density"?'),
        ("density ~ 0.1", "wanted", "after the number column density"),
        ("label > 3", "wanted", "after the text column label"),
        ("density > much", "wanted", "a number to compare density with"),
        ("density >", "got", "the end"),
        ("density > 1 label = x", "wanted", "and, or, or the end"),
        ("(density > 1", "wanted", ")"),
        ("density > 1 and", "wanted", "a column"),
        ('label ~ "open', "got", '"'),
        ("> 3", "got", ">"),
    ],
)
def test_what_cannot_be_read_says_why(filter: str, part: str, says: str) -> None:
    with pytest.raises(QueryInvalid) as caught:
        select(COLUMNS, filter)
    assert says in str(getattr(caught.value, part))
