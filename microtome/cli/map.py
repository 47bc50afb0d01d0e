"""`microtome map`: where the features of an index lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Group
from rich.text import Text

from microtome.cli.cards import plain, titled
from microtome.cli.session import Common, Session
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.features.geometry


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """How the map is drawn."""

    layout: Literal["tsne", "pca"] = "tsne"
    """Keep neighbours together, or project (a second, but neighbours are torn apart)."""
    perplexity: Annotated[float, Parameter(validator=Number(gte=1))] = 30.0
    """About how many neighbours count."""
    min_cluster: Annotated[int, Parameter(validator=Number(gte=0))] = 0
    """Fewest features of a cluster; 0 takes a thousandth of all, at least 8."""
    seed: int = 0
    """Of the layout."""


def map(
    index: str | None = None,
    *,
    name: str | None = None,
    options: MapOptions = MapOptions(),
    limit: Annotated[int, Parameter(validator=Number(gte=0))] = 20,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Lay out the features of an index by what they write, find clusters, and name them by rule.

    Makes maps/NAME in the workspace, once; the server draws it at /s/INDEX/map.
    Needs scikit-learn and openTSNE: pip install 'microtome[map]'.

    Examples:

        microtome map wiki

        microtome map demo-plt --min-cluster 40

    Parameters
    ----------
    index
        Name of an index, or its path; not needed when there is only one.
    name
        Name of the map; that of the index unless given.
    limit
        How many clusters to print.
    """
    from microtome.features import FeatureIndex
    from microtome.features.geometry import MapConfig, make_map

    with Session(common) as session:
        opened = FeatureIndex.open(session.find("index", index), session.workspace)
        out = session.workspace.place("map", name or opened.name)
        config = MapConfig(**{field: getattr(options, field) for field in MapOptions.__dataclass_fields__})
        with session.step("map", output=out) as step:
            made = make_map(opened, out=out, config=config, progress=session.progress)
            step.count(len(made.points.features), "features")
        session.result({"path": str(out), "clusters": made.clusters, "facts": made.facts}, map_view(made, limit=limit, out=out))


def map_view(made: "microtome.features.geometry.FeatureMap", *, limit: int, out: Path) -> Group:
    """Its clusters, the largest first, and what the map keeps."""
    table = titled(f"{count(len(made.clusters))} clusters of {count(len(made.points.features))} features")
    for heading in ("cluster", "features", "label", "of its features", "of all"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for one in made.clusters[:limit]:
        best = one.terms[0] if one.terms else None
        shares = ["", ""] if best is None else [f"{best.share:.0%}", f"{best.overall:.1%}"]
        table.add_row(*(Text(cell) for cell in [str(one.number), count(one.size), plain(one.label), *shares]))
    facts = made.facts
    said = (
        f"{facts['outside']:.0%} of the features are in no cluster. The map keeps {facts['neighbours_kept']:.0%} of the 15 nearest directions near "
        f"({facts['by_chance']:.1%} by chance).\nkept: {out}"
    )
    return Group(table, Text(said))
