"""The demo's steering: a real feature, found by the word that its rule names, at several doses beside its controls."""

from typing import TYPE_CHECKING

from microtome.cli.session import Session

if TYPE_CHECKING:
    from microtome.models import Model

CONCEPTS = {
    "sea": r"seas?|oceans?|ships?|boats?|coasts?|beach(es)?|islands?|sail\w*|waves?|harbou?rs?",
    "music": r"music\w*|songs?|albums?|bands?|sing\w*|guitars?|pianos?|concerts?|melod\w+",
    "war": r"wars?|arm(y|ies)|soldiers?|battles?|troops|military|enem(y|ies)|weapons?",
    "river": r"rivers?|streams?|lakes?|banks?|valleys?|water\w*|boats?",
}
"""Words by which a text is held to be about a concept; the first two that features are named by are steered and held against each other."""
OPENINGS = (
    "My favourite place is",
    "On the weekend we went to",
    "The old man told us about",
    "In the morning she looked at",
    "The best part of the holiday was",
    "He spent his whole life",
    "The children were playing near",
    "Last night I dreamt of",
)
DOSES = (0.0, 1.0, 2.0, 3.0)
"""Multiples of the feature's maximum."""
LAYERS_AWAY = -10
LEAST_F1 = 0.8
"""Of the rule that names the feature."""


def steer_a_feature(session: Session, model: "Model", *, index: str) -> bool:
    """Measure the curve and keep it; one that is there already is left as it is. An index without such features has none, and a note says so."""
    from microtome.artifacts import MANIFEST
    from microtome.dictionaries import DictionarySet, load_any
    from microtome.features import FeatureIndex, feature_named
    from microtome.steering import Add, Bench, Controls, Feature, Matches, Sampling, dose_curve, save_curve, times_max

    workspace = session.workspace
    out = workspace.place("doses", index)
    if (out / MANIFEST).is_file():
        return True
    opened = FeatureIndex.open(workspace.find("index", index), workspace)
    found = {word: row for word in CONCEPTS if (row := feature_named(opened, word, f1=LEAST_F1)) is not None}
    if len(found) < 2:
        session.note("no two features of this index are named by the demo's concepts: nothing is steered")
        return False
    word, *_ = found
    right, wrong, *_ = found.values()
    name = workspace.by_id("dictionary", opened.overview().sources["dictionary_id"]).name
    one, another = (Feature(dictionary=name, index=row.feature, max_activation=row.max) for row in (right, wrong))
    dictionary = load_any(workspace.place("dictionary", name))
    assert not isinstance(dictionary, DictionarySet)  # the demo trains one, of one site
    sampling = Sampling(max_new_tokens=20)
    bench = Bench(model=model, prompts=OPENINGS, sampling=sampling, dictionaries={name: dictionary}, progress=session.progress)
    asking, site = f"Write about the {word}.", opened.overview().sources["reads"]
    curve = dose_curve(
        bench,
        Add(component=one, strength=times_max(1)),
        title=f"Feature {one.index} ({right.label}) was added at every token of {site}: dose 1 is its maximum.",
        measure=Matches(pattern=rf"(?i)\b({CONCEPTS[word]})\b"),
        words=f"the share of continuations that say a word of the {word} ({CONCEPTS[word].replace('|', ', ')})",
        doses=DOSES,
        controls=Controls(random=1, wrong=another, layer_shift=LAYERS_AWAY, asking=asking),
        named={
            "random": "a random direction, at every token of the edit's length.",
            "wrong_concept": f"feature {another.index} ({wrong.label}) at the same multiple of its maximum.",
            "wrong_layer": f"the same vector {-LAYERS_AWAY} layers earlier.",
            "prompt": f"no edit; “{asking}” before each opening.",
        },
    )
    save_curve(curve, out, inputs={"index": opened.id, "model": model.fingerprint})
    return True
