"""Features by a token: how often they fire on it, and how much of their firing it is, exactly over the store. No model is needed."""

import numpy as np

from microtome.errors import QueryInvalid
from microtome.features.arrays import Array
from microtome.features.found import TokenHit, TokenSearch
from microtome.features.store import Store

_CLOSE = 8
"""Tokens that are named when none is exactly the text."""


def by_token(store: Store, text: str, *, spellings: bool, limit: int) -> TokenSearch:
    """Features ranked by the F1 of "it fires" against "the token is here", equal ones by number."""
    tokens = _meant(store, text, spellings=spellings)
    here = store.postings.keep() & np.isin(store.corpus.tokens, tokens)
    positions = np.flatnonzero(here)
    count, total = np.zeros(store.n_features), np.zeros(store.n_features)
    for _, forward in store.postings.forward(positions):
        first, last = forward.arrays["indptr"][forward.rows], forward.arrays["indptr"][forward.rows + 1]
        sizes = last - first
        at = np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
        ids = forward.arrays["ids"][at].astype(np.intp)
        count += np.bincount(ids, minlength=store.n_features)
        total += np.bincount(ids, weights=forward.arrays["values"][at].astype(np.float64), minlength=store.n_features)
    numbers, labels = store.rows.numbers, store.labels()
    active = np.flatnonzero(count)
    f1 = 2 * count[active] / (len(positions) + numbers["count"][active])
    hits: list[TokenHit] = []
    for at in map(int, np.argsort(-f1, kind="stable")[: max(0, limit)]):
        feature = int(active[at])
        mean = float(total[feature] / count[feature])
        hits.append(
            TokenHit(
                feature=feature,
                label=labels[feature],
                f1=float(f1[at]),
                rate=float(count[feature] / len(positions)),
                share=float(count[feature] / numbers["count"][feature]),
                count=int(count[feature]),
                mean=mean,
                share_of_max=mean / float(numbers["max"][feature]),
                density=float(numbers["density"][feature]),
            )
        )
    pieces = tuple(store.vocabulary.piece(token) for token in tokens.tolist())
    return TokenSearch(text=text, tokens=tuple(tokens.tolist()), pieces=pieces, occurrences=len(positions), n_active=len(active), hits=tuple(hits))


def _meant(store: Store, text: str, *, spellings: bool) -> Array:
    """The ids whose bytes are the text; `QueryInvalid` names tokens that hold it when there is none."""
    if not text.strip("\0"):
        raise QueryInvalid("no token is named.", got=repr(text), wanted="the text of one token", do='Give it with its space, such as " the".')
    vocabulary = store.vocabulary
    wanted, loose = text.encode(), _folded(text)
    found = [
        token
        for token in range(len(vocabulary))
        if vocabulary.bytes(token) == wanted or (spellings and loose and _folded(vocabulary.bytes(token).decode(errors="replace")) == loose)
    ]
    if not found:
        close = [token for token in range(len(vocabulary)) if loose and loose in _folded(vocabulary.bytes(token).decode(errors="replace"))]
        close.sort(key=lambda token: (len(vocabulary.bytes(token)), token))
        named = ", ".join(f'"{vocabulary.piece(token)}"' for token in close[:_CLOSE]) or "none is like it"
        do = "Write it as one token is written, with its space; a text of several tokens is for a search by a text."
        raise QueryInvalid("no token is exactly this text.", got=f'"{text}"', wanted=f"a token; those with it: {named}", do=do)
    return np.array(found, dtype=np.int64)


def _folded(text: str) -> str:
    return text.strip().casefold()
