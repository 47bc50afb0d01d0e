"""Concept vectors: what "Tell me about {word}" leaves before the reply, minus the same for unrelated words."""

from collections.abc import Sequence

from microtome.directions.direction import Direction
from microtome.directions.reading import Reader, spoken
from microtome.directions.recipes.contrast import mean_difference
from microtome.directions.recipes.lists import UNRELATED_WORDS
from microtome.directions.recipes.recipe import Made, cosine, made_by, mean_norm, need, recipe
from microtome.errors import ConfigError
from microtome.stats import Result

TEMPLATE = "Tell me about {word}."


@recipe("concept")
def concept(
    reader: Reader,
    *,
    word: str,
    unrelated: Sequence[str] = UNRELATED_WORDS,
    templates: Sequence[str] = (TEMPLATE,),
) -> Made:
    """v = h("Tell me about {word}.") − mean over unrelated words of the same, at the token before the reply ("Emergent introspective awareness",
    2025, whose depth is two thirds).

    Several templates are averaged. The word itself is left out of the unrelated ones. Where the model has a chat template the sentence is a
    user's turn. `specificity` is the cosine of v with the vectors of the unrelated words (each minus the mean of the rest): what any word has
    in common would show there.
    """
    if not word.strip():
        raise ConfigError("a concept needs a word.", got=repr(word), wanted="a word", do="Give one.")
    if not templates or any("{word}" not in template for template in templates):
        raise ConfigError("a template has no place for the word.", got=", ".join(templates), wanted='"… {word} …"', do="Write {word} into it.")
    others = [other for other in unrelated if other.lower() != word.lower()]
    need(others, at_least=4, what="unrelated words")
    texts = [template.replace("{word}", each) for template in templates for each in (word, *others)]
    rows = reader.rows([spoken(reader.model, text) for text in texts]).reshape(len(templates), 1 + len(others), -1).double().mean(0).float()
    vector = mean_difference(rows[:1], rows[1:])
    direction = Direction(
        name=word,
        site=reader.site,
        vector=vector,
        sign=f"towards {word}",
        reference=f"the mean of {len(others)} unrelated words",
        model=reader.model.fingerprint,
        provenance=made_by(reader, "concept", templates=list(templates), unrelated=others),
    )
    total, n = rows[1:].double().sum(0), len(others)
    likeness = [cosine(vector, (row - (total - row) / (n - 1)).float()) for row in rows[1:].double()]
    results = (
        Result(name="length", value=direction.norm / mean_norm(rows), n=n + 1, unit="of mean length"),
        Result(
            name="specificity",
            value=max(likeness),
            n=n,
            definition="largest cosine of v with the vector of an unrelated word, each minus the mean of the rest; the mean is a baseline",
            baselines={"mean": sum(likeness) / n},
        ),
    )
    return Made(
        direction=direction, results=results, notes=("One sentence is behind this vector: it also holds the word's tokens, not only its meaning.",)
    )
