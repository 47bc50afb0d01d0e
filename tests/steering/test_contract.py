"""What every edit keeps, over all ten families: nothing depends on padding, batch, cache or how many tokens a forward has."""

from typing import Any, Literal

import pytest
import torch
from steering.small import CHAT, CONDITIONALS, DICTIONARIES, EDITS, PROMPTS, SITE, direction

from microtome.models import TINY_FAMILIES, Model
from microtome.steering import Add, Batch, EditSet, Generation, Prompt, Sampling, applied, generate, raw

ALL = EDITS | CONDITIONALS
SHORT = Sampling(max_new_tokens=4, ends_at_eos=False)


def sets() -> list[EditSet]:
    return [EditSet(edits=(edit,), on_unmatched="allow") for edit in ALL.values()]


def same(left: Generation, right: Generation) -> None:
    assert left.tokens == right.tokens
    assert [choice.logprob for choice in left.choices] == pytest.approx([choice.logprob for choice in right.choices], abs=2e-4)
    assert [(count.selected, count.edited) for count in left.counts] == [(count.selected, count.edited) for count in right.counts]
    assert left.n_edited == right.n_edited
    for site, values in left.activations.items():
        torch.testing.assert_close(values, right.activations[site], atol=2e-4, rtol=2e-3)


def whole_batch(model: Model, *, padding: Literal["left", "right"] = "left") -> Batch:
    """A row for each edit, of three prompts in turn."""
    return Batch.of(model, prompts(), padding=padding)


def prompts() -> list[Prompt]:
    three: tuple[Prompt, ...] = (*PROMPTS, CHAT)
    return [three[i % 3] for i in range(len(ALL))]


def test_dose_zero_changes_no_bit(model: Model):
    batch = whole_batch(model)
    plain = model.logits(batch.tokens, mask=batch.mask)
    with applied(model, [edits.at(0) for edits in sets()], batch=batch, dictionaries=DICTIONARIES) as done:
        assert torch.equal(model.logits(batch.tokens, mask=batch.mask), plain)
    assert done.report.edited == 0


def test_every_edit_moves_its_row_and_leaves_nothing_behind(model: Model):
    batch = whole_batch(model)
    plain = model.logits(batch.tokens, mask=batch.mask)
    with applied(model, sets(), batch=batch, dictionaries=DICTIONARIES) as done:
        changed = model.logits(batch.tokens, mask=batch.mask)
    for row, edited in enumerate(done.report.tokens):
        assert torch.equal(changed[row], plain[row]) == (edited == 0)
    assert torch.equal(model.logits(batch.tokens, mask=batch.mask), plain)


def test_an_exception_leaves_nothing_behind(model: Model):
    batch = Batch.of(model, PROMPTS)
    plain = model.logits(batch.tokens, mask=batch.mask)
    with pytest.raises(RuntimeError, match="stop here"), applied(model, EDITS["ablate"], batch=batch):
        raise RuntimeError("stop here")
    with pytest.raises(RuntimeError, match="enough"):
        generate(model, PROMPTS[0], edits=EDITS["add"], sampling=SHORT, on_token=_fail)
    assert torch.equal(model.logits(batch.tokens, mask=batch.mask), plain)


def _fail(row: int, choice: object) -> bool:
    raise RuntimeError("enough")


def test_a_row_of_a_batch_is_what_it_is_alone(model: Model):
    """Every row has its own edit and its own prompt; a third of the edits for each family."""
    together = generate(model, prompts(), edits=sets(), sampling=SHORT, dictionaries=DICTIONARIES, capture=[SITE])
    rows = list(zip(prompts(), sets(), together, strict=True))
    for prompt, edits, in_batch in rows[TINY_FAMILIES.index(str(model.ref).split(":")[1].split("@")[0]) % 3 :: 3]:
        same(generate(model, prompt, edits=edits, sampling=SHORT, dictionaries=DICTIONARIES, capture=[SITE])[0], in_batch)


def test_the_cache_changes_nothing(model: Model):
    cached, uncached = (
        generate(model, prompts(), edits=sets(), sampling=SHORT, dictionaries=DICTIONARIES, capture=[SITE], use_cache=use) for use in (True, False)
    )
    for with_cache, without in zip(cached, uncached, strict=True):
        same(with_cache, without)


def test_padding_on_the_left_and_on_the_right_are_the_same(model: Model):
    found: list[torch.Tensor] = []
    reports: list[tuple[int, ...]] = []
    for batch in (whole_batch(model), whole_batch(model, padding="right")):
        with applied(model, sets(), batch=batch, dictionaries=DICTIONARIES) as done:
            logits = model.logits(batch.tokens, mask=batch.mask)
        found.append(torch.cat([logits[row, batch.mask[row]] for row in range(len(ALL))]))
        reports.append(done.report.tokens)
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-3)
    assert reports[0] == reports[1]


def test_reading_the_whole_text_again_is_what_generating_saw(model: Model):
    """The oracle of the cached loop: one forward over prompt and continuation under the same edits gives the same activations."""
    done = generate(model, prompts(), edits=sets(), sampling=SHORT, dictionaries=DICTIONARIES, capture=[SITE])
    batch = Batch.of(model, [each.row for each in done])
    with applied(model, sets(), batch=batch, dictionaries=DICTIONARIES) as again, model.tap(read=[SITE]) as seen:
        model.logits(batch.tokens, mask=batch.mask)
    for row, each in enumerate(done):
        torch.testing.assert_close(each.activations[SITE], seen[SITE][row, batch.mask[row]], atol=2e-4, rtol=2e-3)
    assert again.report.tokens == tuple(each.n_edited for each in done)


def test_a_prompt_of_one_token_is_a_prompt(model: Model):
    """Nothing is guessed from a forward of one token: it is prompt when it is, and generation when it is."""
    one, step = PROMPTS[0][:1], Sampling(max_new_tokens=2, ends_at_eos=False)
    push = Add(component=direction(), strength=raw(5))
    for phase, edited in (("prompt", 1), ("generation", 2)):
        where = {"where": {"phases": [phase]}}
        edits = EditSet.from_json([push.to_json() | where])
        done = generate(model, one, edits=edits, sampling=step, capture=[SITE])[0]
        plain = model.capture(torch.tensor([done.row.tokens]), [SITE])[SITE][0]
        moved = (done.activations[SITE] - plain).abs().amax(-1) > 0.1
        assert done.n_edited == edited
        assert bool(moved[0]) == (phase == "prompt")


def test_unedited_generation_is_that_of_the_model(model: Model):
    """Against transformers' own loop."""
    row = Batch.of(model, [PROMPTS[1]])
    hf: Any = model.hf
    theirs: list[int] = hf.generate(row.tokens, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)[0, row.width :].tolist()
    ours = generate(model, PROMPTS[1], sampling=Sampling(max_new_tokens=8, ends_at_eos=False))[0]
    if max(theirs) < len(model.tokenizer):
        assert list(ours.tokens) == theirs
