"""What `microtome train` makes beside one dictionary from shards: a sweep of many, or a recipe from text."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from microtome.cli.session import Session


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Many:
    """Several runs, or a run that is written down."""

    sweep: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Make every combination on one pass, e.g. --sweep k=8,16,32 --sweep seed=0,1; also decoder=trained,frozen, lr, features, tokens, coefficient."""
    recipe: str | None = None
    """Make what a recipe says, from text: demo-plt. --features, --tokens and --reads make it smaller."""


def make_recipe(session: Session, recipe: str, *, name: str | None, reads: tuple[str, ...], features: int | None, tokens: int | None) -> None:
    """Run a recipe and show what it made."""
    from microtome.models import Site, load
    from microtome.training import RECIPES, RecipeOut, run_recipe

    asked = RECIPES.get(recipe)
    layers = [site.layer for site in map(Site.parse, reads) if site.layer is not None] or None
    made = asked.smaller(layers=layers, features=features, tokens=tokens)
    with session.step("load model"):
        model = load(made.model, progress=session.progress)
    place = session.workspace.place
    out = RecipeOut(corpus=place("corpus", recipe), dictionary=place("dictionary", name or recipe))
    with session.step("train", output=out.dictionary) as step:
        trained = run_recipe(made, model, out=out, progress=session.progress)
        step.count(made.train.tokens, "tokens")
    from microtome.cli.train import quality_table

    views = [f"{made.title}\n", quality_table(trained.quality, model.quantised), f"text: {made.licence}"]
    result = {"dictionary": {"path": str(trained.path), "id": trained.id}, "recipe": recipe, "lr": trained.lr, "quality": trained.quality}
    session.result(result, *views)
