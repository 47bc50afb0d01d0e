"""What `microtome index` measures with the model once the index is there: effects of features, losses of tokens. Both resume."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from microtome.cli.session import Session

if TYPE_CHECKING:
    import microtome.activations
    import microtome.features
    import microtome.models


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured by running the model."""

    effects: Annotated[int, Parameter(validator=Number(gte=0))] = 0
    """Measure what ablating and doubling does for so many features, drawn among those that fire; a larger number goes on with the same draw."""
    losses: Annotated[bool, Parameter(negative=())] = False
    """Measure the loss of every token of the corpus, kept in losses/ for every index of it."""


def measure(
    session: Session,
    index: "microtome.features.FeatureIndex",
    *,
    asked: Measured,
    model: "microtome.models.Model",
    corpus: "microtome.activations.Corpus",
) -> dict[str, Any]:
    """Measure what was asked for; how much was new."""
    from microtome.features import measure_losses

    found: dict[str, Any] = {}
    if asked.losses:
        out = session.workspace.place("losses", corpus.path.name)
        with session.step("losses", output=out) as step:
            measure_losses(model, corpus, out=out, progress=session.progress)
            step.count(corpus.n_tokens, "tokens")
        found["losses"] = {"path": str(out)}
    if asked.effects:
        with session.step("effects") as step:
            new = index.measure_effects(model, asked.effects, progress=session.progress)
            step.count(new, "features")
        found["effects"] = {"features": asked.effects, "new": new}
    return found
