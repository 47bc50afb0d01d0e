"""Edits as values: JSON, identity, conflicts, reports, and what is refused."""

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from steering.small import CHAT, CONDITIONALS, DICTIONARIES, EDITS, FEATURE, PROMPTS, SITE, direction

from microtome.config import canonical_json
from microtome.directions import Direction
from microtome.errors import (
    ConfigError,
    DirectionForeign,
    EditInvalid,
    EditsConflict,
    FeatureNeverActive,
    FeatureNotFound,
    MicrotomeError,
    NothingToEdit,
    NotRegistered,
    SelfCheckFailed,
    ShapeMismatch,
    SiteNotFound,
    StrengthUncalibrated,
)
from microtome.models import Model, Site
from microtome.steering import (
    Ablate,
    Add,
    Batch,
    Cap,
    Change,
    Clamp,
    Condition,
    Conditional,
    Edit,
    EditSet,
    KVEdit,
    Multiply,
    Noise,
    Scale,
    Strength,
    Swap,
    Where,
    Window,
    Workshop,
    applied,
    band,
    generate,
    layers,
    of_norm,
    percentile,
    raw,
    times_current,
    times_max,
)
from microtome.testing import check_edit

KV = KVEdit(layer=1, keys=(0.5,) * 16, values=(1.0,) * 16)
ALL = EDITS | CONDITIONALS | {"kv": KV}
BARE = Direction(name="bare", site=SITE, vector=torch.ones(32))


@pytest.mark.parametrize("name", ALL)
def test_json_both_ways_is_the_same_edit(name: str):
    edit = ALL[name]
    read = Edit.from_json(json.loads(canonical_json(edit)))
    assert read == edit
    assert read.fingerprint == edit.fingerprint
    assert EditSet.from_json(json.loads(canonical_json(EditSet.of(edit)))) == EditSet.of(edit)


def test_another_edit_has_another_fingerprint():
    fingerprints = [edit.fingerprint for edit in ALL.values()]
    assert len(set(fingerprints)) == len(fingerprints)
    assert replace(EDITS["add"], dose=0.5).fingerprint != EDITS["add"].fingerprint


def run(model: Model, edits: Any, *, prompt: Any = PROMPTS[0], dictionaries: Any = DICTIONARIES) -> torch.Tensor:
    batch = Batch.of(model, [prompt])
    with applied(model, edits, batch=batch, dictionaries=dictionaries):
        return model.logits(batch.tokens, mask=batch.mask)


REFUSED: dict[str, tuple[Any, type[MicrotomeError]]] = {
    "wrong width": (Add(component=replace(BARE, vector=torch.ones(31)), strength=raw(1)), ShapeMismatch),
    "another model": (Ablate(component=replace(BARE, model="0123456789abcdef")), DirectionForeign),
    "beyond the last layer": (Ablate(component=BARE, sites=(Site("resid_post", 9),)), SiteNotFound),
    "kv beyond the last layer": (replace(KV, layer=9), SiteNotFound),
    "percentile without calibration": (Cap(component=BARE, strength=percentile(25), side="floor"), StrengthUncalibrated),
    "maximum that is not known": (Clamp(feature=replace(FEATURE, max_activation=None), strength=times_max(2)), StrengthUncalibrated),
    "feature that never fired": (Clamp(feature=replace(FEATURE, max_activation=0.0), strength=times_max(-2)), FeatureNeverActive),
    "adding what never fired": (Add(component=replace(FEATURE, max_activation=0.0), strength=times_max(-2)), FeatureNeverActive),
    "unknown feature": (Multiply(feature=replace(FEATURE, index=64), strength=times_current(2)), FeatureNotFound),
    "unknown dictionary": (Multiply(feature=replace(FEATURE, dictionary="smal"), strength=times_current(2)), FeatureNotFound),
    "site that is not written": (Clamp(feature=FEATURE, strength=raw(1), sites=(Site("resid_post", 0),)), EditInvalid),
    "no match": (Ablate(component=BARE, where=Where(text="absent")), NothingToEdit),
    "swap of other length": (Swap(sites=(SITE,), source=PROMPTS[1]), EditInvalid),
    "swap of nothing": (Swap(sites=(SITE,), source=PROMPTS[1], source_where=Where(text="absent")), EditInvalid),
    "kv without a cache": (KV, EditInvalid),
    "condition after its edit": (
        Conditional(condition=Condition(component=BARE, site=Site("resid_post", 2), threshold=raw(0)), then=EDITS["ablate"]),
        EditInvalid,
    ),
    "feature read after it is used": (
        Add(component=FEATURE, strength=times_current(1), sites=(Site("resid_post", 0),)),
        EditInvalid,
    ),
    "condition in unknown percentiles": (
        Conditional(condition=Condition(component=BARE, threshold=percentile(5)), then=EDITS["ablate"]),
        StrengthUncalibrated,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_a_way_out(llama: Model, name: str):
    edit, kind = REFUSED[name]
    batch = Batch.of(llama, [PROMPTS[0]])
    plain = llama.logits(batch.tokens)
    with pytest.raises(kind) as caught:
        run(llama, edit)
    error = caught.value
    assert all((error.what, error.got is not None, error.wanted is not None, error.do))
    assert torch.equal(llama.logits(batch.tokens), plain)


def test_off_edits_are_checked_too(llama: Model):
    with pytest.raises(ShapeMismatch):
        run(llama, Add(component=replace(BARE, vector=torch.ones(31)), strength=raw(0)))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"edit": "ablat"}, NotRegistered),
        ({"component": {}}, EditInvalid),
        ([], EditInvalid),
        ({"edit": "ablate", "component": BARE.to_json(), "strenght": 1}, ConfigError),
        ({"edit": "add", "component": BARE.to_json(), "strength": 2.0}, ConfigError),
        ({"edit": "add", "component": BARE.to_json(), "strength": {"value": 2.0, "unit": "sigma"}}, ConfigError),
        ({"edit": "clamp", "feature": {"dictionary": "x"}, "strength": {"value": 2.0, "unit": "raw"}}, ConfigError),
    ],
    ids=["kind", "no kind", "a list", "misspelt field", "bare number", "unit", "half a feature"],
)
def test_json_that_is_no_edit_is_refused(value: object, kind: type[MicrotomeError]):
    with pytest.raises(kind):
        Edit.from_json(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scale(component=BARE, strength=raw(1)),
        lambda: Clamp(feature=FEATURE, strength=of_norm(1)),
        lambda: Multiply(feature=FEATURE, strength=raw(1)),
        lambda: Noise(sites=(SITE,), strength=times_max(1)),
        lambda: Noise(sites=(), strength=raw(1)),
        lambda: Strength(float("nan"), "raw"),
        lambda: Add(component=BARE, strength=raw(1), dose=float("inf")),
        lambda: KVEdit(layer=0),
        lambda: KVEdit(layer=0, keys=(float("nan"),)),
        lambda: Conditional(condition=Condition(component=BARE, threshold=raw(0)), then=KV),
    ],
)
def test_fields_that_do_not_go_together_are_refused(make: Any):
    with pytest.raises(EditInvalid):
        make()


def test_a_clause_that_matches_nothing_may_be_allowed(llama: Model):
    edits = EditSet(edits=(Ablate(component=BARE, where=Where(text="absent")),), on_unmatched="allow")
    batch = Batch.of(llama, [PROMPTS[0]])
    assert torch.equal(run(llama, edits), llama.logits(batch.tokens))


def test_the_report_counts_tokens_once_however_many_sites(llama: Model):
    edits = EditSet.of(
        Add(component=BARE, strength=raw(1), sites=layers("resid_post", start=0, stop=3), where=Where(roles=("user",), part="content")),
        Add(component=BARE, strength=raw(1), where=Where(positions=(Window(start=-1),))),
    )
    batch = Batch.of(llama, [CHAT, PROMPTS[0]])
    quiet = EditSet(edits=edits.edits[1:])
    with applied(llama, [edits, quiet], batch=batch) as done:
        assert done.report.edited == 0
        llama.logits(batch.tokens, mask=batch.mask)
        llama.logits(batch.tokens, mask=batch.mask)
    n = len(llama.tokenizer.encode("hello world"))
    assert [(c.row, c.edit, c.selected, c.edited) for c in done.report.counts] == [(0, 0, n, n), (0, 1, 1, 1), (1, 0, 1, 1)]
    assert done.report.tokens == (n + 1, 1)


def test_a_cap_that_never_binds_edits_no_token(llama: Model):
    batch = Batch.of(llama, [PROMPTS[0]])
    with applied(llama, Cap(component=BARE, strength=raw(-1e4), side="floor"), batch=batch) as done:
        llama.logits(batch.tokens)
    assert done.report.counts[0].selected == batch.width
    assert done.report.edited == 0


ABLATE, CAP = Ablate(component=direction(1)), Cap(component=direction(4), strength=raw(0.1), side="ceil")


def test_edits_whose_order_matters_are_refused_unless_a_policy_is_given(llama: Model):
    with pytest.raises(EditsConflict, match=r"edits 0 \(ablate\) and 1 \(cap\)"):
        run(llama, EditSet.of(ABLATE, CAP))
    clamp = Clamp(feature=FEATURE, strength=raw(1))
    with pytest.raises(EditsConflict):
        run(llama, EditSet.of(clamp, replace(clamp, strength=raw(2))))
    apart = EditSet.of(replace(ABLATE, where=Where(positions=(Window(stop=2),))), replace(CAP, where=Where(positions=(Window(start=2),))))
    run(llama, apart)
    run(llama, EditSet.of(ABLATE, replace(CAP, sites=(Site("resid_post", 2),))))


def test_in_sequence_each_edit_sees_what_the_one_before_left(llama: Model):
    batch = Batch.of(llama, [PROMPTS[0]])
    before = llama.capture(batch.tokens, [SITE])[SITE][0]
    u, w = ABLATE.component.unit_vector, CAP.component.unit_vector  # type: ignore[union-attr]  # both are directions here

    def ablated(x: torch.Tensor) -> torch.Tensor:
        return x - (x @ u)[:, None] * u

    def capped(x: torch.Tensor) -> torch.Tensor:
        return x - (x @ w - 0.1).clamp(min=0)[:, None] * w

    for policy, wanted in (("sequence", capped(ablated(before))), ("sum", ablated(before) + capped(before) - before)):
        edits = EditSet.from_json({"edits": [ABLATE.to_json(), CAP.to_json()], "on_conflict": policy})
        with applied(llama, edits, batch=batch):
            torch.testing.assert_close(llama.capture(batch.tokens, [SITE])[SITE][0], wanted, atol=1e-4, rtol=1e-4)


def test_additions_are_summed_in_any_order(llama: Model):
    parts = (EDITS["add"], EDITS["clamp"], EDITS["noise"])
    torch.testing.assert_close(run(llama, EditSet(edits=parts)), run(llama, EditSet(edits=parts[::-1])), atol=1e-5, rtol=1e-4)


def test_a_band_has_its_own_vector_at_each_layer(llama: Model):
    edits = band(lambda site: Ablate(component=direction(site.layer or 0, site=site)), layers("resid_post", start=0, stop=3))
    batch = Batch.of(llama, [PROMPTS[0]])
    with applied(llama, edits, batch=batch):
        seen = llama.capture(batch.tokens, layers("resid_post", start=0, stop=3))
    for site, values in seen.items():
        assert float((values[0] @ direction(site.layer or 0).unit_vector).abs().max()) < 1e-4


def test_a_forward_of_other_tokens_is_refused(llama: Model):
    batch = Batch.of(llama, [PROMPTS[0]])
    with pytest.raises(ShapeMismatch, match="other tokens"), applied(llama, ABLATE, batch=batch):
        llama.logits(batch.tokens[:, :-1])


def test_sets_must_be_as_many_as_rows(llama: Model):
    with pytest.raises(EditInvalid, match="do not fit the batch"):
        generate(llama, list(PROMPTS), edits=[EditSet.of(ABLATE)])


@pytest.mark.parametrize("name", ["ablate", "clamp", "noise", "kv"])
def test_the_public_check_passes_for_our_own(llama: Model, name: str):
    check_edit(ALL[name], llama, dictionaries=DICTIONARIES)


def test_the_public_check_fails_for_an_edit_that_looks_at_the_shape(llama: Model):
    from microtome.steering import EDITS as REGISTRY

    @dataclass(frozen=True, kw_only=True)
    class LastOnly(Edit):
        """Edits when it meets a forward of one token."""

        kind: ClassVar[str] = "last-only"

        def places(self, workshop: Workshop) -> tuple[Site, ...]:
            return (SITE,)

        def prepare(self, site: Site, workshop: Workshop) -> Change:
            return lambda x, spots: torch.full_like(x, 5.0 if len(x) == 1 else 0.0)

    REGISTRY._parts["last-only"] = LastOnly
    try:
        with pytest.raises(SelfCheckFailed, match="promise"):
            check_edit(LastOnly(), llama)
    finally:
        del REGISTRY._parts["last-only"]
