"""Applying edits to forwards of a batch."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from microtome.dictionaries import Dictionary
from microtome.errors import EditInvalid
from microtome.models import Model
from microtome.steering.compose import Edits, sets_for
from microtome.steering.layout import Batch
from microtome.steering.plan import Plan
from microtome.steering.report import EditReport


class Applied:
    """Edits that are in force."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @property
    def report(self) -> EditReport:
        """What the forwards so far did, also after the block was left."""
        return self._plan.report()


@contextmanager
def applied(model: Model, edits: Edits, *, batch: Batch, dictionaries: Mapping[str, Dictionary] | None = None) -> Generator[Applied]:
    """Within the block, forwards of `batch` in this thread run under `edits`; after it, also after an exception, the model is as it was.

    >>> batch = Batch.of(model, ["The cat sat", conversation])
    >>> with applied(model, Ablate(component=direction), batch=batch) as done:
    ...     logits = model.logits(batch.tokens, mask=batch.mask)
    >>> done.report.tokens

    Taps and other applied edits nest: the outer ones come first. Raises what does not fit before anything runs: `DirectionForeign`,
    `ShapeMismatch`, `SiteNotFound`, `StrengthUncalibrated`, `EditsConflict`, `NothingToEdit`, `EditInvalid`. Edits of the key-value cache need
    `generate`.
    """
    plan = Plan(model, batch, sets=sets_for(edits, len(batch.rows)), dictionaries=dictionaries)
    if plan.edits_cache:
        raise EditInvalid("a KV edit needs the cache.", got="a forward without one", wanted="generation", do="Use generate.")
    with model.tap(edit=plan.hooks):
        yield Applied(plan)
