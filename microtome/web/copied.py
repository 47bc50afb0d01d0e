"""The answers that a copy holds beside tables, cards and documents: a feature's panels, the odd features, the map, and what people keep.

Keys are what the pages ask the server for, so that `static/lib/copy.js` finds an answer by its question.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from microtome.features import Card, FeatureIndex, Kept
from microtome.features.dreaming import dreams_of
from microtome.features.geometry import map_of
from microtome.features.odd import dense_ablation, odd_report
from microtome.web.recipes import ABLATION_CALL, MAP_CALL, ODD_CALL, call_of, command_line, dreams_call, json_line, links_call, recipe, show_line
from microtome.web.replies import with_recipe

WORKSPACE = Path("microtome-workspace")
_LINK_RANKS, _TOGETHER_RANKS = ("twera", "era"), ("jaccard", "pmi", "count")
_FEW, _MORE, _GRAMS = 8, 10, 6
"""How many the pages ask for: of most lists, of features that fire together, of n-grams."""


def copied_recipe(index: FeatureIndex, call: str, *shown: object, shell: str | None = None) -> dict[str, str]:
    """The lines under an answer, with a workspace of no machine."""
    return recipe(WORKSPACE, index.name, call, shell=show_line(WORKSPACE, index.name, *shown) if shell is None else shell)


def copied_card(index: FeatureIndex, feature: int, *, kept: bool) -> dict[str, Any]:
    """A card; without what people keep unless it is `kept`."""
    card: Card = index.card(feature)
    shown = card if kept else replace(card, notes=(), verdict="", lists=())
    return with_recipe(shown, copied_recipe(index, call_of("card", feature), feature))


def relations_of(index: FeatureIndex, feature: int, *, dreamt: Collection[int]) -> dict[str, Any]:
    """What the panels of a feature show, by the last part of the address they ask, with the rank where there are several.

    `dreamt` are the features of which something was dreamt. Measurements that were not made are left out.
    """
    found: dict[str, Any] = {}
    for rank in _LINK_RANKS:
        options = {"rank": rank, "limit": _FEW}
        both = {"downstream": index.downstream(feature, rank=rank, limit=_FEW), "upstream": index.upstream(feature, rank=rank, limit=_FEW)}
        found[f"links {rank}"] = both | {"reproduce": copied_recipe(index, links_call(feature, **options), feature, "--links")}
    for rank in _TOGETHER_RANKS:
        call = call_of("coactive", feature, rank=rank, limit=_MORE)
        listed = index.coactive(feature, rank=rank, limit=_MORE)
        found[f"coactive {rank}"] = {"coactive": listed, "reproduce": copied_recipe(index, call, feature, "--coactive")}
    found["alike"] = with_recipe(index.alike(feature, limit=_FEW), copied_recipe(index, call_of("alike", feature, limit=_FEW), feature, "--alike"))
    lines = copied_recipe(index, call_of("surroundings", feature, limit=_GRAMS), feature, "--around")
    found["around"] = with_recipe(index.surroundings(feature, limit=_GRAMS), lines)
    lines = copied_recipe(index, call_of("suspects", feature, limit=_FEW), feature, "--suspects")
    found["suspects"] = {"suspects": index.suspects(feature, limit=_FEW), "reproduce": lines}
    if len(index.sites) > 1:
        lines = copied_recipe(index, call_of("across", feature, limit=_FEW), feature, "--across")
        found["across"] = with_recipe(index.across(feature, limit=_FEW), lines)
    if feature in dreamt:
        lines = copied_recipe(index, dreams_call(feature), shell=json_line(WORKSPACE, "dream", index.name, feature))
        found["dreams"] = {"dreams": dreams_of(index, feature), "command": command_line(WORKSPACE, "dream", index.name, feature), "reproduce": lines}
    return found | dict(_measured(index, feature))


def _measured(index: FeatureIndex, feature: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was measured with the model and is stored."""
    for name in ("loss", "effects"):
        value = index.loss(feature) if name == "loss" else index.effects(feature)
        if value is not None:
            yield name, {name: value, "reproduce": copied_recipe(index, call_of(name, feature), feature, f"--{name}")}


def kept_of(index: FeatureIndex, chosen: Sequence[int]) -> Kept:
    """What people keep of some features alone; lists that have none of them are left out."""
    found, here = index.kept(), set(chosen)
    lists = [replace(each, features=tuple(feature for feature in each.features if feature in here)) for each in found.lists]
    return replace(found, lists=tuple(each for each in lists if each.features), features=tuple(one for one in found.features if one.feature in here))


def copied_pages(index: FeatureIndex, chosen: Sequence[int], *, kept: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The pages of an index that are one answer each, by name: what is odd, its map if it was made, and what people keep if it is `kept`."""
    yield "odd", with_recipe(odd_report(index), copied_recipe(index, ODD_CALL, shell=json_line(WORKSPACE, "odd", index.name)))
    ablation = dense_ablation(index)
    if ablation is not None:
        lines = copied_recipe(index, ABLATION_CALL, shell=json_line(WORKSPACE, "odd", index.name, "--ablate"))
        yield "ablation", {"ablation": ablation, "reproduce": lines}
    drawn = map_of(index.store)
    if drawn is not None:
        yield "map", with_recipe(drawn.view(index), copied_recipe(index, MAP_CALL, shell=json_line(WORKSPACE, "map", index.name)))
    if kept:
        lines = copied_recipe(index, call_of("kept"), shell=json_line(WORKSPACE, "keep", index.name))
        yield "kept", with_recipe(kept_of(index, chosen), lines)
