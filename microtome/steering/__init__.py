"""Steering: edits of what a model computes, as values; applying them to forwards, to generation and to weights.

Made from directions and features, never from hooks of your own. Begin with

    edit = Add(component=direction, strength=of_norm(0.1), where=Where(phases=("generation",)))
    edited = generate(model, "Once upon a time", edits=edit)[0]                     # or EditSet.of(edit, other); a set a row for a batch
    with applied(model, edit, batch=Batch.of(model, ["Once upon a time"])) as done: ...  # plain forwards under the edit
    effects(Bench(model=model, prompts=prompts), edit, measure=Divergence()).controls   # beside a random direction, another layer …
    both = compare(model, "Once upon a time", edits=edit)                           # unedited and edited, same seed
    save_variant(Variant(name="sea", model="demo", fingerprint=model.fingerprint, edits=EditSet.of(edit)), path)   # a name for these edits

An edit is operation × component × strength × where, and a dose: 0 changes no bit, 1 is all of it. JSON both ways (`edit.to_json()`,
`Edit.from_json`), and the fingerprint is its identity. Which tokens are prompt and which generated is always said, never guessed from shapes.
`microtome.steering.serving` answers many requests at once.

To extend: a frozen dataclass derived from `Edit` under `@EDITS.register("kind")` that defines `places` and `prepare`, proved by
`microtome.testing.check_edit`; a word of the where-language is a function under `@PREDICATES.register("name")`.
"""

from microtome.steering.along import Ablate, Add, Along, Cap, Scale, SetCoordinate
from microtome.steering.apply import Applied, applied
from microtome.steering.cache_edit import KVEdit, kv_difference
from microtome.steering.compare import Comparison, Side, SideBySide, compare, side_by_side
from microtome.steering.component import Component, Feature, Resolved, Spots, Workshop
from microtome.steering.compose import Edits, EditSet, band, layers, sets_for
from microtome.steering.conditional import Condition, Conditional
from microtome.steering.contract import prove_edit
from microtome.steering.curve import DoseCurve, dose_curve, load_curve, save_curve
from microtome.steering.edit import EDITS, Change, Edit, Reading
from microtome.steering.effect import Controls, Effects, asking_for, at_other_layer, effect, effects, with_component
from microtome.steering.from_elsewhere import Noise, Swap
from microtome.steering.generate import Generation, generate
from microtome.steering.growing import Ending
from microtome.steering.layout import Batch, Prompt, Row
from microtome.steering.measure import Bench, Divergence, LogitDifference, Matches, Measure, Score, measure_of
from microtome.steering.of_feature import Clamp, Multiply
from microtome.steering.report import EditCount, EditReport
from microtome.steering.sampling import Sampling, TokenChoice
from microtome.steering.spoken import SPOKEN, spoken, spoken_set
from microtome.steering.strength import Strength, of_norm, percentile, raw, times_current, times_max
from microtome.steering.sweep import Dose, sweep
from microtome.steering.turned import Turned, turned
from microtome.steering.variants import Variant, load_variant, save_variant
from microtome.steering.weights import ablated_weights, residual_writes
from microtome.steering.where import PREDICATES, Where, Window
from microtome.steering.writing import Writing

__all__ = [
    "Edit",
    "EDITS",
    "EditSet",
    "Edits",
    "sets_for",
    "band",
    "layers",
    "Add",
    "Ablate",
    "Scale",
    "SetCoordinate",
    "Cap",
    "Clamp",
    "Multiply",
    "Swap",
    "Noise",
    "KVEdit",
    "kv_difference",
    "Conditional",
    "Condition",
    "Along",
    "Change",
    "Reading",
    "Spots",
    "Workshop",
    "Resolved",
    "Component",
    "Feature",
    "Strength",
    "raw",
    "times_max",
    "times_current",
    "of_norm",
    "percentile",
    "Where",
    "Window",
    "PREDICATES",
    "Row",
    "Prompt",
    "Batch",
    "applied",
    "Applied",
    "EditReport",
    "EditCount",
    "ablated_weights",
    "residual_writes",
    "generate",
    "Generation",
    "Ending",
    "Sampling",
    "TokenChoice",
    "prove_edit",
    "compare",
    "Comparison",
    "side_by_side",
    "SideBySide",
    "Side",
    "SPOKEN",
    "spoken",
    "spoken_set",
    "Bench",
    "Measure",
    "LogitDifference",
    "Divergence",
    "Matches",
    "Score",
    "measure_of",
    "effect",
    "effects",
    "Effects",
    "Controls",
    "Turned",
    "turned",
    "with_component",
    "at_other_layer",
    "asking_for",
    "sweep",
    "Dose",
    "DoseCurve",
    "dose_curve",
    "save_curve",
    "load_curve",
    "Writing",
    "Variant",
    "save_variant",
    "load_variant",
]
