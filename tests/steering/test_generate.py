from dataclasses import replace

import pytest
import torch
from steering.small import CHAT, DICTIONARIES, EDITS, PROMPTS, SITE, direction

from microtome.errors import ConfigError, EditInvalid, NothingToEdit, ShapeMismatch, TokenOutOfRange
from microtome.models import Model, Site
from microtome.steering import (
    Ablate,
    Add,
    EditSet,
    KVEdit,
    Row,
    Sampling,
    TokenChoice,
    Where,
    Window,
    compare,
    generate,
    kv_difference,
    raw,
)

FREE = Sampling(max_new_tokens=8, ends_at_eos=False)
WARM = Sampling(max_new_tokens=8, ends_at_eos=False, temperature=1.0, seed=3)


def test_the_same_seed_gives_the_same_text_and_another_another(llama: Model):
    first, again, other = (generate(llama, PROMPTS[0], sampling=s)[0].tokens for s in (WARM, WARM, replace(WARM, seed=4)))
    assert first == again
    assert first != other


def test_rows_draw_their_own_random_numbers(llama: Model):
    settings = [replace(WARM, seed=seed) for seed in range(3)]
    together = generate(llama, [PROMPTS[0], PROMPTS[1], PROMPTS[0]], sampling=settings)
    alone = [generate(llama, prompt, sampling=s)[0] for prompt, s in zip((*PROMPTS, PROMPTS[0]), settings, strict=True)]
    assert [each.tokens for each in together] == [each.tokens for each in alone]


def test_sampling_follows_the_probabilities(llama: Model):
    """First tokens over many seeds against the model's own distribution: total variation within what 400 draws allow."""
    row = Row(tokens=tuple(llama.tokenizer.encode(PROMPTS[0])))
    seeds = [Sampling(max_new_tokens=1, temperature=0.7, top_k=4, seed=seed, ends_at_eos=False) for seed in range(400)]
    drawn = torch.tensor([each.tokens[0] for each in generate(llama, [row] * 400, sampling=seeds)])
    logits = llama.logits(torch.tensor([row.tokens]))[0, -1, : len(llama.tokenizer)] / 0.7
    best = logits.topk(4)
    found = torch.stack([(drawn == token).float().mean() for token in best.indices])
    # of the full distribution the four likeliest are kept and rescaled
    assert float((found - best.values.softmax(-1)).abs().sum()) / 2 < 0.08
    assert float(found.sum()) == pytest.approx(1)


def test_a_narrow_nucleus_is_greedy(llama: Model):
    narrow = Sampling(max_new_tokens=6, temperature=1.0, top_p=1e-6, ends_at_eos=False)
    greedy = Sampling(max_new_tokens=6, ends_at_eos=False)
    assert generate(llama, PROMPTS[0], sampling=narrow)[0].tokens == generate(llama, PROMPTS[0], sampling=greedy)[0].tokens


def test_logprobs_are_those_of_the_edited_model(llama: Model):
    done = generate(llama, PROMPTS[0], edits=EDITS["add"], sampling=Sampling(max_new_tokens=3, top_logprobs=2, ends_at_eos=False))[0]
    tokens = torch.tensor([done.row.tokens])
    push = direction().vector
    logits = llama.logits(tokens, edit={SITE: lambda x: x + 0.7 * push})[0, len(done.prompt.tokens) - 1 : -1, : len(llama.tokenizer)]
    wanted = logits.log_softmax(-1)
    assert [choice.logprob for choice in done.choices] == pytest.approx([float(wanted[i, t]) for i, t in enumerate(done.tokens)], abs=1e-4)
    for i, choice in enumerate(done.choices):
        assert [likely.token for likely in choice.top] == wanted[i].topk(2).indices.tolist()


def test_a_stop_text_ends_the_row_and_is_cut_off(llama: Model):
    free = generate(llama, PROMPTS[0], sampling=FREE)[0]
    stop = free.choices[3].text or free.choices[4].text
    done = generate(llama, PROMPTS[0], sampling=Sampling(max_new_tokens=8, ends_at_eos=False, stop=(stop,)))[0]
    assert done.ending == "stop"
    assert free.text.startswith(done.text + stop)
    assert len(done.tokens) <= 5


def test_the_end_token_ends_the_row(llama: Model):
    eos = llama.tokenizer.eos
    assert eos is not None
    head = llama.hf.get_output_embeddings().weight[eos]  # type: ignore[union-attr]  # a causal model has one
    final = Add(component=direction(site=Site("final_norm")), strength=raw(0))
    push = final.component.__class__(name="end", site=Site("final_norm"), vector=head)  # type: ignore[call-arg]  # a direction
    done, other = generate(llama, [PROMPTS[0], PROMPTS[1]], edits=[EditSet.of(Add(component=push, strength=raw(500))), EditSet()], sampling=FREE_ENDS)
    assert (done.ending, done.tokens, done.text) == ("eos", (eos,), "")
    assert len(other.tokens) >= len(done.tokens)


FREE_ENDS = Sampling(max_new_tokens=3)


def test_tokens_stream_and_false_cancels(llama: Model):
    seen: list[tuple[int, str]] = []

    def note(row: int, choice: TokenChoice) -> bool:
        seen.append((row, choice.text))
        return row == 0 or len([each for each in seen if each[0] == 1]) < 2

    first, second = generate(llama, list(PROMPTS), sampling=FREE, on_token=note)
    assert (first.ending, second.ending) == ("length", "cancelled")
    assert len(second.tokens) == 2
    assert "".join(text for row, text in seen if row == 0) == first.text.removesuffix("\ufffd") or first.text.endswith("\ufffd")


def test_activations_have_a_row_a_token(llama: Model):
    sites = [Site("resid_post", 0), Site("mlp_out", 2)]
    for use_cache in (True, False):
        for done in generate(llama, [CHAT, PROMPTS[0]], sampling=FREE, capture=sites, use_cache=use_cache):
            plain = llama.capture(torch.tensor([done.row.tokens]), sites)
            for site in sites:
                torch.testing.assert_close(done.activations[site], plain[site][0], atol=1e-4, rtol=1e-3)


def test_the_context_ends_a_row(llama: Model):
    nearly = Row(tokens=tuple([5] * 126))
    done = generate(llama, [nearly, PROMPTS[0]], sampling=FREE)
    assert [len(each.tokens) for each in done] == [2, 8]
    with pytest.raises(TokenOutOfRange, match="no room"):
        generate(llama, Row(tokens=tuple([5] * 128)), sampling=FREE)


def test_an_edit_that_waits_for_a_token_that_never_comes_is_an_error(llama: Model):
    waits = Ablate(component=direction(), where=Where(phases=("generation",), tokens=(1,), exclude=(Where(tokens=(1,)),)))
    with pytest.raises(NothingToEdit):
        generate(llama, PROMPTS[0], edits=waits, sampling=FREE)
    with pytest.raises(NothingToEdit):  # at once: no such step can come
        generate(llama, PROMPTS[0], edits=Ablate(component=direction(), where=Where(steps=(Window(start=8),))), sampling=FREE)
    allowed = EditSet(edits=(waits,), on_unmatched="allow")
    assert generate(llama, PROMPTS[0], edits=allowed, sampling=FREE)[0].tokens == generate(llama, PROMPTS[0], sampling=FREE)[0].tokens


def test_the_cache_is_edited_once_at_the_last_prompt_token(model: Model):
    edit = kv_difference(model, [PROMPTS[0]], negative=[PROMPTS[1]], layer=1)
    assert edit.values is not None
    strong = KVEdit(layer=1, keys=edit.keys, values=tuple(50 * value for value in edit.values))
    plain = generate(model, list(PROMPTS), sampling=FREE)
    done = generate(model, list(PROMPTS), edits=strong, sampling=FREE)
    for before, after, prompt in zip(plain, done, PROMPTS, strict=True):
        assert after.choices[0] == before.choices[0]
        assert after.choices[1].logprob != before.choices[1].logprob
        assert (after.counts[0].selected, after.counts[0].edited) == (1, 1)
        alone = generate(model, prompt, edits=strong, sampling=FREE)[0]
        assert alone.tokens == after.tokens
    off = generate(model, list(PROMPTS), edits=EditSet.of(strong).at(0), sampling=FREE)
    assert [each.choices for each in off] == [each.choices for each in plain]
    with pytest.raises(EditInvalid, match="cache"):
        generate(model, PROMPTS[0], edits=strong, use_cache=False)
    with pytest.raises(ShapeMismatch):
        generate(model, PROMPTS[0], edits=KVEdit(layer=1, values=(1.0, 2.0)))


def test_side_by_side_has_one_seed_and_measures_the_edited_text(llama: Model):
    quiet = compare(llama, CHAT, edits=EditSet.of(EDITS["add"]).at(0), sampling=WARM)
    assert quiet.unedited.tokens == quiet.edited.tokens
    assert quiet.kl == pytest.approx([0.0] * 8, abs=1e-9)
    assert quiet.surprise == pytest.approx([-choice.logprob for choice in quiet.unedited.choices], abs=0.2)
    loud = compare(llama, CHAT, edits=EDITS["add to a band"], sampling=WARM, dictionaries=DICTIONARIES)
    assert loud.kl is not None
    assert min(loud.kl) > 0
    assert len(loud.kl) == len(loud.surprise) == 8


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": 0}, {"stop": ("",)}], ids=str)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]):
    with pytest.raises(ConfigError):
        Sampling(**wrong)  # type: ignore[arg-type]  # wrong on purpose
