"""What a dense feature may be: tests that need nothing but tokens and its activations on them (Sun et al. 2025, "Dense SAE latents").

An AUC says how well the activation (0 where silent) tells tokens of a class from the others; below ½ it is the silence that marks them, so the
larger of AUC and 1 − AUC is given. Ours: word classes come from the token's text and a list of function words, where the paper has a tagger.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from microtome.features.arrays import Array
from microtome.features.odd.records import Category
from microtome.features.separate import mid_ranks
from microtome.features.text import Vocabulary

POSITION_BAR, AUC_BAR, ALPHABET_BAR, PC1_BAR = 0.4, 0.75, 0.9, 0.75
_FUNCTION_WORDS_TEXT = (
    "a an the this that these those some any each every no and or but nor so yet if then than as of in on at by for from to with about into over "
    "after before between under through during without within against among is are was were be been being am do does did done have has had having "
    "will would shall should can could may might must not i you he she it we they me him her us them my your his its our their who whom whose "
    "which what when where why how there here also only very more most such own same too just up down out off again further once all both few "
    "other while because until although though since per via"
)
_FUNCTION_WORDS = frozenset(_FUNCTION_WORDS_TEXT.split())


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Some kept tokens of a corpus and the classes that they belong to."""

    positions: Array
    """In the corpus, ascending."""
    offset: Array
    """From the start of their context."""
    classes: dict[str, Array]
    """Truth for each token, by class."""


def classes_of(vocabulary: Vocabulary, tokens: Array) -> dict[str, Array]:
    """Classes of tokens by their text alone."""
    ids, inverse = np.unique(tokens, return_inverse=True)
    pieces = [vocabulary.bytes(int(token)).decode(errors="replace") for token in ids]
    tests = {
        "newline": lambda piece: "\n" in piece,
        "punctuation": lambda piece: bool(piece.strip()) and not any(c.isalnum() or c == "\ufffd" for c in piece),
        "content word": _is_content_word,
        "sentence end": lambda piece: piece.rstrip().rstrip("\"')]”’").endswith((".", "!", "?")),
    }
    return {name: np.array([test(piece) for piece in pieces], dtype=bool)[inverse] for name, test in tests.items()}


def token_categories(values: Array, tokens: Tokens) -> tuple[Category, ...]:
    """Position and the word classes; `values` are the activations on those tokens. A class that no token has, or all have, is left out."""
    ranks = mid_ranks(np.asarray(values, dtype=np.float64)[:, None])[:, 0]
    found = [_category("position", abs(_correlation(ranks, mid_ranks(tokens.offset[:, None].astype(np.float64))[:, 0])), POSITION_BAR)]
    for name, members in tokens.classes.items():
        n, m = int(members.sum()), int((~members).sum())
        if n and m:
            auc = (float(ranks[members].sum()) - n * (n + 1) / 2) / (n * m)
            found.append(_category(name, max(auc, 1 - auc), AUC_BAR))
    return tuple(found)


def alphabet(pieces: list[str]) -> Category | None:
    """Share of the tokens raised most whose first letter is the commonest one's, whatever its case; None without letters.

    The paper reads the top 100 logits, this the ones that the index keeps (15 unless it was built otherwise).
    """
    letters = [piece.lstrip()[:1].casefold() for piece in pieces]
    letters = [letter for letter in letters if letter.isalpha()]
    if not letters:
        return None
    return _category("alphabet", max(map(letters.count, set(letters))) / len(pieces), ALPHABET_BAR)


def first_component(rows: Array) -> Array:
    """The first principal component of some rows, at length 1, its sign arbitrary."""
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    return np.linalg.eigh(centred.T @ centred)[1][:, -1]


def pc1(direction: Array, component: Array) -> Category:
    """|cosine| of a direction with the first principal component."""
    length = float(np.linalg.norm(direction))
    return _category("PC1", abs(float(direction @ component)) / length if length else 0.0, PC1_BAR)


def _category(name: str, value: float, bar: float) -> Category:
    return Category(name=name, value=value, bar=bar, holds=value >= bar if name == "alphabet" else value > bar)


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def _is_content_word(piece: Any) -> bool:
    word = piece.strip().casefold()
    return len(word) > 1 and word.isalpha() and word not in _FUNCTION_WORDS
