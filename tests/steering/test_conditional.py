"""Conditions against brute force: which tokens are changed, and never by what comes later or stands in another row."""

import pytest
import torch
from steering.small import CHAT, DICTIONARIES, FEATURE, PROMPTS, SCOPES, SITE, Scope, direction

from microtome.models import Model, Site
from microtome.steering import Add, Batch, Condition, Conditional, EditSet, Feature, Where, applied, raw
from microtome.steering.layout import row_of

EARLY, PUSH = Site("resid_post", 0), direction(2)
JUDGE = direction(7, site=EARLY)


def changed(model: Model, condition: Condition) -> torch.Tensor:
    """For each token of the chat whether it was changed, with two other rows beside it."""
    edit = Conditional(condition=condition, then=Add(component=PUSH, strength=raw(5)))
    batch = Batch.of(model, [PROMPTS[0], CHAT, PROMPTS[1]])
    before = model.capture(batch.tokens, [SITE], mask=batch.mask)[SITE]
    with applied(model, edit, batch=batch, dictionaries=DICTIONARIES) as done:
        after = model.capture(batch.tokens, [SITE], mask=batch.mask)[SITE]
    moved = (after != before).any(-1)[1, batch.mask[1]]
    assert done.report.tokens[1] == int(moved.sum())
    assert done.report.counts[1].selected == len(moved)
    return moved


def spread(hits: list[bool], turns: list[int | None], scope: Scope) -> list[bool]:
    """The definition, token by token."""
    found: list[bool] = []
    for i, hit in enumerate(hits):
        first = {"token": i, "conversation": 0}.get(scope, i)
        if scope == "turn":
            while first > 0 and turns[first - 1] == turns[i]:
                first -= 1
        found.append(hit or any(hits[first:i]))
    return found


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("when", ["above", "below"])
def test_a_projection_opens_what_its_scope_says(llama: Model, scope: Scope, when: str):
    row = row_of(llama, CHAT)
    numbers = JUDGE.project(llama.capture(torch.tensor([row.tokens]), [EARLY])[EARLY][0])
    level = float(numbers.sort(descending=when == "above").values[3])
    hits = numbers > level if when == "above" else numbers < level
    condition = Condition(component=JUDGE, when="above" if when == "above" else "below", threshold=raw(level), scope=scope)
    found = changed(llama, condition)
    assert found.tolist() == spread(hits.tolist(), row.turn_of(), scope)
    assert 0 < int(found.sum()) < len(row.tokens) or scope == "conversation"


def test_only_the_tokens_looked_at_can_open(llama: Model):
    row = row_of(llama, CHAT)
    where = Where(roles=("user",), part="content")
    always = Condition(component=JUDGE, threshold=raw(-1e6), scope="token", where=where)
    assert changed(llama, always).tolist() == where.select(row, llama.tokenizer)
    onwards = Condition(component=JUDGE, threshold=raw(-1e6), scope="conversation", where=where)
    first = where.select(row, llama.tokenizer).index(True)
    assert changed(llama, onwards).tolist() == [i >= first for i in range(len(row.tokens))]


def test_a_feature_and_a_probe_open_where_they_say(llama: Model):
    row = row_of(llama, CHAT)
    x = llama.capture(torch.tensor([row.tokens]), [SITE])[SITE][0]
    codes = DICTIONARIES["small"].encode(x)
    busiest = int(torch.bincount(codes.indices.flatten(), weights=codes.values.flatten()).argmax())
    fires = torch.where(codes.indices == busiest, codes.values, 0).sum(1) > 0
    assert changed(llama, Condition(component=Feature(dictionary="small", index=busiest), threshold=raw(0))).tolist() == fires.tolist()
    probe = torch.sigmoid(x @ direction(7).vector + 0.1) > 0.9
    assert changed(llama, Condition(component=direction(7), bias=0.1, threshold=raw(0.9))).tolist() == probe.tolist()


def test_nested_conditions_must_both_hold_and_doses_multiply(llama: Model):
    batch = Batch.of(llama, [CHAT])
    row = row_of(llama, CHAT)
    user, early = (Condition(component=JUDGE, threshold=raw(-1e6), where=where) for where in (Where(roles=("user",)), Where(part="content")))
    inner = Conditional(condition=early, then=Add(component=PUSH, strength=raw(4), dose=0.5), dose=0.5)
    before = llama.capture(batch.tokens, [SITE])[SITE][0]
    with applied(llama, EditSet.of(Conditional(condition=user, then=inner)), batch=batch):
        moved = llama.capture(batch.tokens, [SITE])[SITE][0] - before
    wanted = torch.tensor(Where(roles=("user",), part="content").select(row, llama.tokenizer)).float()[:, None] * PUSH.vector
    torch.testing.assert_close(moved, wanted, atol=1e-4, rtol=1e-4)


def test_the_condition_sees_the_site_before_the_edits_of_its_set(llama: Model):
    """The push alone would open the condition; it is read before it."""
    batch = Batch.of(llama, [PROMPTS[0]])
    level = float(PUSH.project(llama.capture(batch.tokens, [SITE])[SITE][0]).max()) + 1
    condition = Condition(component=PUSH, threshold=raw(level))
    edits = EditSet.of(Add(component=PUSH, strength=raw(100)), Conditional(condition=condition, then=Add(component=FEATURE, strength=raw(9))))
    with applied(llama, edits, batch=batch, dictionaries=DICTIONARIES) as done:
        llama.logits(batch.tokens)
    assert [count.edited for count in done.report.counts] == [batch.width, 0]
