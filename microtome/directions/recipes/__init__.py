"""Recipes: functions that make a `Direction` from a model and texts, each with what was measured of it and what it does not show.

Begin with a `Reader` (model, site, span) and

    reader = Reader(model=model, site=depth(model))
    concept(reader, word="ocean").direction
    contrast(reader, positive=glad_texts, negative=sad_texts, name="glad")
    probe(reader, positive=…, negative=…).results          # cross-validated AUC, shuffled null, bag of words

To extend: a function in a file of its own under `@recipe("name")` that takes a `Reader` first and returns a `Made`.
"""

from microtome.directions.recipes.axis import AxisMade, RoleJudge, TurnCoordinate, assistant_axis, drift
from microtome.directions.recipes.concept import concept
from microtome.directions.recipes.contrast import Components, components, contrast, mean_difference, paired_component, split_half
from microtome.directions.recipes.emotion import EmotionsMade, emotions, project_out, top_components
from microtome.directions.recipes.lists import (
    DECLINED,
    DEFAULT_PROMPTS,
    EMOTIONS,
    HARMLESS,
    NEUTRAL,
    QUESTIONS,
    ROLES,
    UNRELATED_WORDS,
    Emotion,
)
from microtome.directions.recipes.logistic import Fitted, fit_logistic
from microtome.directions.recipes.persona import Judge, Judged, PersonaMade, Reply, Trait, persona
from microtome.directions.recipes.probe import auc, bag_of_words, cross_validated, folds_of, probe
from microtome.directions.recipes.recipe import RECIPES, Made, Tokens, Writer, depth, recipe, top_tokens
from microtome.directions.recipes.refusal import Candidate, Limits, RefusalMade, ablated_everywhere, refusal, refusal_score
from microtome.directions.recipes.slots import SLOT_NAMES, SlotsFitted, SlotsMade, Story, fit_slots, slots, slots_right, stories
from microtome.directions.recipes.trained import Preference, TrainedMade, trained
from microtome.directions.recipes.traits import TRAITS

__all__ = [
    "RECIPES",
    "recipe",
    "Made",
    "Writer",
    "depth",
    "top_tokens",
    "Tokens",
    "contrast",
    "mean_difference",
    "Components",
    "components",
    "paired_component",
    "split_half",
    "probe",
    "fit_logistic",
    "Fitted",
    "auc",
    "bag_of_words",
    "cross_validated",
    "folds_of",
    "concept",
    "refusal",
    "RefusalMade",
    "Candidate",
    "Limits",
    "refusal_score",
    "ablated_everywhere",
    "persona",
    "PersonaMade",
    "Trait",
    "TRAITS",
    "Judge",
    "Judged",
    "Reply",
    "assistant_axis",
    "AxisMade",
    "RoleJudge",
    "drift",
    "TurnCoordinate",
    "emotions",
    "EmotionsMade",
    "Emotion",
    "project_out",
    "top_components",
    "trained",
    "TrainedMade",
    "Preference",
    "slots",
    "SlotsMade",
    "SlotsFitted",
    "Story",
    "stories",
    "fit_slots",
    "slots_right",
    "SLOT_NAMES",
    "UNRELATED_WORDS",
    "EMOTIONS",
    "NEUTRAL",
    "QUESTIONS",
    "ROLES",
    "DEFAULT_PROMPTS",
    "DECLINED",
    "HARMLESS",
]
