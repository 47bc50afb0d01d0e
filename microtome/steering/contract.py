"""What every edit promises, tried out on a model: for `microtome.testing.check_edit`."""

import json
from collections.abc import Mapping

import torch

from microtome.config import canonical_json
from microtome.dictionaries import Dictionary
from microtome.errors import SelfCheckFailed
from microtome.models import Model
from microtome.shapes import Tensor
from microtome.steering.apply import applied
from microtome.steering.compose import EditSet
from microtome.steering.edit import Edit
from microtome.steering.generate import Generation, generate
from microtome.steering.layout import Batch, Row
from microtome.steering.sampling import Sampling

_CLOSE = 1e-3
_SHORT = Sampling(max_new_tokens=4, ends_at_eos=False)


def prove_edit(edit: Edit, model: Model, *, dictionaries: Mapping[str, Dictionary] | None = None) -> None:
    """Raise `SelfCheckFailed` at the first promise that is not kept.

    JSON both ways is the same edit; dose 0 changes no bit; the model is restored; padding on either side, the rows beside and the cache
    change nothing. Clauses that match nothing here are allowed.
    """
    read = Edit.from_json(json.loads(canonical_json(edit)))
    _require(edit, read == edit and read.fingerprint == edit.fingerprint, "JSON both ways is the same edit")
    edits = EditSet(edits=(edit,), on_unmatched="allow")
    rows = [_row(model, n, seed=seed) for seed, n in enumerate((9, 5))]
    if edit.kind != "kv":
        _prove_forwards(edit, model, edits=edits, rows=rows, dictionaries=dictionaries)
    together = generate(model, rows, edits=edits, sampling=_SHORT, dictionaries=dictionaries)
    for row, in_batch in zip(rows, together, strict=True):
        alone = generate(model, row, edits=edits, sampling=_SHORT, dictionaries=dictionaries)[0]
        _require(edit, _same(alone, in_batch), "a row of a padded batch is what it is alone")
        if edit.kind != "kv":
            uncached = generate(model, row, edits=edits, sampling=_SHORT, dictionaries=dictionaries, use_cache=False)[0]
            _require(edit, _same(alone, uncached), "the cache changes nothing")
    plain = generate(model, rows, sampling=_SHORT)
    off = generate(model, rows, edits=edits.at(0), sampling=_SHORT, dictionaries=dictionaries)
    exactly = all(a.choices == b.choices for a, b in zip(plain, off, strict=True))
    _require(edit, exactly, "dose 0 changes no bit of a generation")


def _prove_forwards(edit: Edit, model: Model, *, edits: EditSet, rows: list[Row], dictionaries: Mapping[str, Dictionary] | None) -> None:
    sides: list[Tensor] = []
    for side in ("left", "right"):
        batch = Batch.of(model, rows, padding=side)
        plain = model.logits(batch.tokens, mask=batch.mask)
        with applied(model, edits.at(0), batch=batch, dictionaries=dictionaries):
            _require(edit, torch.equal(model.logits(batch.tokens, mask=batch.mask), plain), "dose 0 changes no bit")
        with applied(model, edits, batch=batch, dictionaries=dictionaries):
            changed = model.logits(batch.tokens, mask=batch.mask)
        _require(edit, torch.equal(model.logits(batch.tokens, mask=batch.mask), plain), "the model is as it was when the context is left")
        sides.append(torch.cat([changed[row, batch.mask[row].to(changed.device)] for row in range(len(rows))]))
    _require(edit, torch.allclose(sides[0], sides[1], atol=_CLOSE, rtol=_CLOSE), "padding on the left and on the right are the same")


def _row(model: Model, n: int, *, seed: int) -> Row:
    known = sorted(model.tokenizer.text_ids)
    picks = torch.randint(len(known), (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Row(tokens=tuple(known[i] for i in picks))


def _same(left: Generation, right: Generation) -> bool:
    near = all(abs(a.logprob - b.logprob) < _CLOSE for a, b in zip(left.choices, right.choices, strict=False))
    return left.tokens == right.tokens and near and left.n_edited == right.n_edited


def _require(edit: Edit, holds: bool, promise: str) -> None:
    if not holds:
        do = "Read tokens from the spots that are given, and keep no state between forwards."
        raise SelfCheckFailed(f"the edit {edit.kind} breaks a promise.", got="it does not hold", wanted=promise, do=do)
