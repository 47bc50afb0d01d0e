import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from microtome.errors import ModelUnsupported, ShapeMismatch, SiteNotFound
from microtome.models import Model, Site, tiny, tiny_tokenizer


def test_an_edit_that_changes_nothing_changes_no_bit(model: Model, tokens: torch.Tensor):
    edits = {site: torch.clone for site in model.sites()}
    assert torch.equal(model.logits(tokens, edit=edits), model.logits(tokens))


def test_reading_changes_no_bit(model: Model, tokens: torch.Tensor):
    plain = model.logits(tokens)
    with model.tap(read=model.sites()) as seen:
        assert torch.equal(model.logits(tokens), plain)
    assert set(seen) == set(model.sites())


def test_every_site_that_is_edited_moves_the_logits(model: Model, tokens: torch.Tensor):
    plain = model.logits(tokens)
    for site in model.sites():
        assert not torch.equal(model.logits(tokens, edit={site: lambda x: 2 * x + 0.1}), plain), site


def test_adding_to_resid_mid_adds_to_the_stream_and_to_what_the_mlp_reads(model: Model, tokens: torch.Tensor):
    if model.is_parallel:
        with pytest.raises(SiteNotFound, match="parallel"):
            model.capture(tokens, [Site("resid_mid", 1)])
        return
    push = torch.linspace(-1, 1, model.d_model)
    mid, post, mlp_out = Site("resid_mid", 1), Site("resid_post", 1), Site("mlp_out", 1)
    plain = model.capture(tokens, [mid, mlp_out, post])
    with model.tap(edit={mid: lambda x: x + push}):
        moved = model.capture(tokens, [mid, mlp_out, post])
    torch.testing.assert_close(moved[mid], plain[mid] + push)
    assert not torch.allclose(moved[mlp_out], plain[mlp_out])
    torch.testing.assert_close(moved[post], moved[mid] + moved[mlp_out], atol=1e-5, rtol=1e-5)


def test_adding_to_a_write_is_adding_to_the_stream(model: Model, tokens: torch.Tensor):
    """The last MLP's write feeds nothing else, so pushing it and pushing the last residual is the same."""
    push, last = torch.linspace(-1, 1, model.d_model), model.n_layers - 1
    by_write = model.logits(tokens, edit={Site("mlp_out", last): lambda x: x + push})
    by_stream = model.logits(tokens, edit={Site("resid_post", last): lambda x: x + push})
    torch.testing.assert_close(by_write, by_stream, atol=1e-4, rtol=1e-4)


def test_a_reading_sees_the_value_after_all_edits_of_nested_taps(model: Model, tokens: torch.Tensor):
    site = Site("resid_post", 0)
    plain = model.capture(tokens, [site])[site]
    with model.tap(read=[site], edit={site: lambda x: x + 1}) as outer:
        with model.tap(edit={site: lambda x: 2 * x}) as inner:
            model.logits(tokens)
        assert torch.equal(outer[site], 2 * (plain + 1))
        assert not inner
        model.logits(tokens)
    assert torch.equal(outer[site], plain + 1)


def test_capturing_inside_a_tap_leaves_the_outer_tap_open(model: Model, tokens: torch.Tensor):
    early, late = Site("resid_post", 0), Site("final_norm")
    with model.tap(read=[late]) as seen:
        model.capture(tokens, [early])
        assert late not in seen
        model.logits(tokens)
    assert torch.equal(seen[late], model.capture(tokens, [late])[late])


def test_an_error_inside_leaves_the_model_as_it_was(model: Model, tokens: torch.Tensor):
    plain = model.logits(tokens)

    def fail(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"), model.tap(edit={Site("resid_post", 1): fail, Site("embed"): lambda x: 0 * x}):
        model.logits(tokens)
    assert torch.equal(model.logits(tokens), plain)


def test_threads_do_not_see_each_others_taps(model: Model, tokens: torch.Tensor):
    site, plain = Site("resid_post", 1), model.logits(tokens)
    wanted = {scale: model.logits(tokens, edit={site: lambda x, s=scale: s * x}) for scale in range(1, 5)}
    found: dict[int, list[bool]] = {scale: [] for scale in range(5)}
    start = threading.Barrier(5)

    def work(scale: int) -> None:
        start.wait()
        for _ in range(5):
            edit: Any = {site: lambda x: scale * x} if scale else None
            found[scale].append(torch.equal(model.logits(tokens, edit=edit), wanted.get(scale, plain)))

    threads = [threading.Thread(target=work, args=(scale,)) for scale in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {scale: [True] * 5 for scale in range(5)}


def test_a_tap_on_one_model_is_not_seen_by_another():
    left, right, tokens = tiny("llama"), tiny("llama", seed=1), torch.arange(5, 25)[None]
    plain = right.logits(tokens)
    with left.tap(edit={Site("resid_post", 0): lambda x: 0 * x}, read=[Site("embed")]) as seen:
        assert torch.equal(right.logits(tokens), plain)
    assert not seen


def test_a_capture_that_was_overwritten_in_place_is_refused(model: Model, tokens: torch.Tensor):
    with pytest.raises(ModelUnsupported, match=r"overwritten|in place"), model.tap(read=[Site("resid_post", 1)]) as seen:
        model.logits(tokens)
        seen[Site("resid_post", 1)].add_(1)


def test_a_model_that_adds_in_place_is_refused_when_it_spoils_a_capture(random_model: Callable[..., PreTrainedModel]):
    falcon = Model(random_model("falcon", hidden_size=32, num_hidden_layers=2, num_attention_heads=4), tiny_tokenizer(), ref="falcon")
    with pytest.raises(ModelUnsupported, match="mlp_out"):
        falcon.capture(torch.arange(5, 25)[None], falcon.sites())


def test_an_edit_that_changes_the_shape_is_refused(model: Model, tokens: torch.Tensor):
    with pytest.raises(ShapeMismatch, match=r"L1\.mlp_out"):
        model.logits(tokens, edit={Site("mlp_out", 1): lambda x: x[:, :1]})


def test_an_edit_that_gives_nothing_back_changes_nothing(model: Model, tokens: torch.Tensor):
    assert torch.equal(model.logits(tokens, edit={Site("resid_post", 1): lambda x: None}), model.logits(tokens))


def test_generation_under_an_edit_is_the_same_with_and_without_a_cache(model: Model, tokens: torch.Tensor):
    push = torch.linspace(-1, 1, model.d_model)
    hf: Any = model.hf
    with model.tap(edit={Site("resid_post", 1): lambda x: x + push}), torch.no_grad():
        cached = hf.generate(tokens[:1], max_new_tokens=6, do_sample=False, use_cache=True, pad_token_id=0)
        plain = hf.generate(tokens[:1], max_new_tokens=6, do_sample=False, use_cache=False, pad_token_id=0)
    assert torch.equal(cached, plain)


def test_an_unknown_site_names_the_nearest_that_exists(model: Model):
    with pytest.raises(SiteNotFound) as caught:
        model.site("L30.resid_post")
    assert f"L{model.n_layers - 1}.resid_post" in caught.value.do
