import pytest
import torch
from steering.small import PROMPTS

from microtome.dictionaries import TopK, Transcoder
from microtome.errors import EditInvalid
from microtome.models import Model, Site
from microtome.steering import Add, Batch, Clamp, EditSet, Feature, Multiply, applied, raw, times_current
from microtome.testing import check_edit

READS, WRITES = Site("mlp_in", 1), (Site("mlp_out", 1), Site("mlp_out", 2))


def transcoder() -> Transcoder:
    random = torch.Generator().manual_seed(2)
    weights = {
        "W_enc": torch.randn(48, 32, generator=random) / 5,
        "W_dec": torch.randn(48, 2, 32, generator=random) / 5,
        "b_enc": torch.zeros(48),
        "b_dec": torch.zeros(2, 32),
    }
    return Transcoder(reads=READS, writes=WRITES, nonlinearity=TopK(k=8), weights=weights)


def test_a_feature_read_at_one_site_is_edited_at_all_that_it_writes(model: Model):
    coder, batch = transcoder(), Batch.of(model, [PROMPTS[1]])
    codes = coder.encode(model.capture(batch.tokens, [READS])[READS][0])
    busiest = int(torch.bincount(codes.indices.flatten(), weights=codes.values.flatten()).argmax())
    f = torch.where(codes.indices == busiest, codes.values, 0).sum(1)
    feature = Feature(dictionary="coder", index=busiest)
    for edit, wanted in (
        (Clamp(feature=feature, strength=raw(4)), 4 - f),
        (Multiply(feature=feature, strength=times_current(-2)), -3 * f),
    ):
        with model.tap(read=WRITES) as plain:
            model.logits(batch.tokens)
        with applied(model, edit, batch=batch, dictionaries={"coder": coder}), model.tap(read=WRITES) as seen:
            model.logits(batch.tokens)
        first = WRITES[0]
        torch.testing.assert_close(seen[first][0] - plain[first][0], wanted[:, None] * coder.direction(busiest, write=first), atol=1e-4, rtol=1e-3)
        moved = {site: seen[site][0] - plain[site][0] for site in WRITES}
        own = (
            Clamp(feature=feature, strength=raw(4), sites=WRITES[:1])
            if isinstance(edit, Clamp)
            else Multiply(feature=feature, strength=edit.strength, sites=WRITES[:1])
        )
        with applied(model, own, batch=batch, dictionaries={"coder": coder}), model.tap(read=WRITES) as downstream:
            model.logits(batch.tokens)
        last = WRITES[1]  # what the edit adds there itself, beyond what follows from the first
        added = moved[last] - (downstream[last][0] - plain[last][0])
        torch.testing.assert_close(added, wanted[:, None] * coder.direction(busiest, write=last), atol=1e-4, rtol=1e-3)


def test_the_contract_holds_for_several_writes(llama: Model):
    check_edit(Clamp(feature=Feature(dictionary="coder", index=3), strength=raw(4)), llama, dictionaries={"coder": transcoder()})


def test_a_feature_cannot_be_used_before_it_is_read(llama: Model):
    early = Add(component=Feature(dictionary="coder", index=3), strength=times_current(1), sites=(Site("resid_pre", 1),))
    with (
        pytest.raises(EditInvalid, match="after"),
        applied(llama, EditSet.of(early), batch=Batch.of(llama, [PROMPTS[0]]), dictionaries={"coder": transcoder()}),
    ):
        pass
