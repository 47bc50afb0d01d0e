"""Closed forms of every operation, on the values that the model goes on with."""

from dataclasses import replace

import pytest
import torch
from steering.small import DICTIONARIES, FEATURE, PROMPTS, SITE, direction, small_dictionary

from microtome.models import Model, Site
from microtome.steering import (
    Ablate,
    Add,
    Batch,
    Cap,
    Clamp,
    Edit,
    EditSet,
    Feature,
    Multiply,
    Noise,
    Scale,
    SetCoordinate,
    Swap,
    Where,
    Window,
    applied,
    of_norm,
    percentile,
    raw,
    times_current,
    times_max,
)

V = direction(1)
U = V.unit_vector


def values(model: Model, edits: Edit | EditSet, *, site: Site = SITE) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations before and after."""
    batch = Batch.of(model, [PROMPTS[1]])
    before = model.capture(batch.tokens, [site])[site][0]
    with applied(model, edits, batch=batch, dictionaries=DICTIONARIES):
        return before, model.capture(batch.tokens, [site])[site][0]


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_nothing_is_left_along_an_ablated_direction(model: Model):
    before, after = values(model, Ablate(component=V))
    assert float((after @ U).abs().max()) < 1e-5 * float(before.norm(dim=1).max())
    close(after, before - (before @ U)[:, None] * U)


def test_a_dose_of_two_reflects(llama: Model):
    before, after = values(llama, Ablate(component=V, dose=2))
    close(after @ U, -(before @ U))


def test_raw_adds_the_vector_as_it_is_stored(model: Model):
    before, after = values(model, Add(component=V, strength=raw(1.5)))
    close(after, before + 1.5 * V.vector)


def test_a_share_of_the_norm_adds_that_length(llama: Model):
    before, after = values(llama, Add(component=V, strength=of_norm(0.25)))
    close((after - before).norm(dim=1), 0.25 * before.norm(dim=1))
    close(after - before, 0.25 * before.norm(dim=1)[:, None] * U)


def test_multiples_of_the_current_and_percentiles_are_coordinates(llama: Model):
    before, after = values(llama, Add(component=V, strength=times_current(-1)))
    close(after @ U, torch.zeros(len(after)))
    assert V.calibration is not None
    before, after = values(llama, SetCoordinate(component=V, strength=percentile(25)))
    close(after @ U, torch.full((len(after),), V.calibration.at(25)))
    before, after = values(llama, Add(component=V, strength=times_max(2)))
    close(after - before, (2 * V.calibration.maximum * U).expand_as(before))


def test_scaling_multiplies_the_coordinate_and_setting_sets_it(model: Model):
    before, after = values(model, Scale(component=V, strength=times_current(0.5)))
    close(after @ U, 1.5 * (before @ U))
    before, after = values(model, SetCoordinate(component=V, strength=raw(-2)))
    close(after @ U, torch.full((len(after),), -2.0))
    close(after - (after @ U)[:, None] * U, before - (before @ U)[:, None] * U)


def test_a_cap_bounds_and_changes_nothing_inside(model: Model):
    before, after = values(model, Cap(component=V, strength=raw(0.2), side="floor"))
    close(after @ U, (before @ U).clamp(min=0.2))
    inside = before @ U >= 0.2
    assert torch.equal(after[inside], before[inside])
    before, after = values(model, Cap(component=V, strength=raw(0.2), side="ceil"))
    close(after @ U, (before @ U).clamp(max=0.2))


@pytest.mark.parametrize("strength", [raw(0.2), percentile(30)], ids=str)
def test_a_floor_is_the_ceiling_of_the_opposite(llama: Model, strength: object):
    floor = Cap(component=V, strength=raw(0.2) if strength == raw(0.2) else percentile(30), side="floor")
    ceil = Cap(component=V.negated(), strength=raw(-0.2) if strength == raw(0.2) else percentile(70), side="ceil")
    close(values(llama, floor)[1], values(llama, ceil)[1])


def test_capping_twice_is_capping_once(llama: Model):
    cap = Cap(component=V, strength=raw(0.2), side="floor")
    close(values(llama, EditSet(edits=(cap, cap), on_conflict="sequence"))[1], values(llama, cap)[1])


def dense(x: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
    """x̂ for given activations of all features, plus the error of the true reconstruction: the long way that no edit takes."""
    sae = small_dictionary()
    x_hat = sae.decode(sae.encode(x))
    nothing = sae.b_dec / sae.input_scale
    return activations @ sae.directions() + nothing + (x - x_hat)


def all_activations(x: torch.Tensor) -> torch.Tensor:
    codes = small_dictionary().encode(x)
    return torch.zeros(len(x), codes.d_dict).scatter_add(1, codes.indices.long(), codes.values)


@pytest.mark.parametrize("factor", [5.0, 0.0, -3.0])
def test_clamping_is_decoding_with_one_activation_replaced_and_the_error_kept(model: Model, factor: float):
    before, after = values(model, Clamp(feature=FEATURE, strength=times_max(factor)))
    wanted = all_activations(before)
    wanted[:, FEATURE.index] = factor * 2.0
    close(after, dense(before, wanted))


@pytest.mark.parametrize("factor", [2.0, 0.0, -3.0])
def test_multiplying_is_decoding_with_one_activation_multiplied(model: Model, factor: float):
    feature = Feature(dictionary="small", index=_busiest(model))
    before, after = values(model, Multiply(feature=feature, strength=times_current(factor)))
    wanted = all_activations(before)
    assert bool((wanted[:, feature.index] > 0).any())
    wanted[:, feature.index] *= factor
    close(after, dense(before, wanted))


def _busiest(model: Model) -> int:
    batch = Batch.of(model, [PROMPTS[1]])
    return int(all_activations(model.capture(batch.tokens, [SITE])[SITE][0]).sum(0).argmax())


def test_two_features_clamped_together_are_decoded_together(llama: Model):
    other = Feature(dictionary="small", index=_busiest(llama), max_activation=1.0)
    assert other.index != FEATURE.index
    both = EditSet.of(Clamp(feature=FEATURE, strength=times_max(2)), Clamp(feature=other, strength=times_max(-1)))
    before, after = values(llama, both)
    wanted = all_activations(before)
    wanted[:, FEATURE.index], wanted[:, other.index] = 4.0, -1.0
    close(after, dense(before, wanted))


def test_a_feature_adds_its_direction(llama: Model):
    before, after = values(llama, Add(component=FEATURE, strength=times_max(3)))
    close(after - before, (6.0 * small_dictionary().direction(3)).expand_as(before))
    before, after = values(llama, Add(component=Feature(dictionary="small", index=_busiest(llama)), strength=times_current(-1)))
    wanted = all_activations(before)
    wanted[:, _busiest(llama)] = 0
    close(after, dense(before, wanted))


def test_a_swap_puts_the_other_prompts_values_here(model: Model):
    donor = Batch.of(model, [PROMPTS[1]])
    theirs = model.capture(donor.tokens, [SITE])[SITE][0]
    batch = Batch.of(model, [PROMPTS[0]])
    last = Where(positions=(Window(start=-3),))
    swap = Swap(sites=(SITE,), source=PROMPTS[1], source_where=last, where=last)
    plain = model.capture(batch.tokens, [SITE])[SITE][0]
    with applied(model, swap, batch=batch):
        swapped = model.capture(batch.tokens, [SITE])[SITE][0]
    assert torch.equal(swapped[:-3], plain[:-3])
    close(swapped[-3:], theirs[-3:])
    with applied(model, replace(swap, along=V), batch=batch):
        part = model.capture(batch.tokens, [SITE])[SITE][0]
    close(part[-3:] @ U, theirs[-3:] @ U)
    close(part[-3:] - (part[-3:] @ U)[:, None] * U, plain[-3:] - (plain[-3:] @ U)[:, None] * U)


def test_swapping_a_prompt_with_itself_changes_nothing(llama: Model):
    before, after = values(llama, Swap(sites=(SITE,), source=PROMPTS[1]))
    close(after, before)


def test_noise_has_its_length_and_its_seed(llama: Model):
    before, after = values(llama, Noise(sites=(SITE,), strength=raw(3), seed=1))
    close((after - before).norm(dim=1), torch.full((len(before),), 3.0))
    assert torch.equal(values(llama, Noise(sites=(SITE,), strength=raw(3), seed=1))[1], after)
    assert not torch.equal(values(llama, Noise(sites=(SITE,), strength=raw(3), seed=2))[1], after)


def test_a_band_edits_each_of_its_sites(llama: Model):
    sites = tuple(Site("resid_post", layer) for layer in range(3))
    batch = Batch.of(llama, [PROMPTS[1]])
    with applied(llama, Ablate(component=V, sites=sites), batch=batch) as done:
        seen = llama.capture(batch.tokens, sites)
    for site in sites:
        assert float((seen[site][0] @ U).abs().max()) < 1e-4
    assert done.report.counts[0].edited == batch.width
