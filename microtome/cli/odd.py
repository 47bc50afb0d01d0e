"""`microtome odd`: the strange features of an index, and what the dense ones are worth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import plain, quoted, titled
from microtome.cli.session import Common, Session
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.features.odd


def odd(
    index: str | None = None,
    *,
    against: str | None = None,
    ablate: Annotated[bool, Parameter(negative=())] = False,
    contexts: Annotated[int, Parameter(validator=Number(gte=1))] = 24,
    limit: Annotated[int, Parameter(validator=Number(gte=0))] = 12,
    device: str = "auto",
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """List dense features with what explains them, duplicates, dead, ultra-rare and one-token features.

    Needs no model. Two more questions about the dense features: whether another
    dictionary of the same model, trained from another seed say, has the same dense
    subspace (--against), and what the model loses without it (--ablate, which runs
    the model and keeps the answer).

    Examples:

        microtome odd wiki

        microtome odd wiki --against wiki-seed-1

        microtome odd wiki --ablate --contexts 48

    Parameters
    ----------
    index
        Name of an index, or its path; not needed when there is only one.
    against
        Index of another dictionary of the same model and sites: principal angles between the two dense subspaces.
    ablate
        Run the model without the span of the dense features, and without other subspaces of the same dimension.
    contexts
        How many contexts of the corpus --ablate runs.
    limit
        Most lines of each list.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.features import FeatureIndex
    from microtome.features.odd import AblationConfig, dense_ablation, odd_report, stability
    from microtome.models import load

    with Session(common) as session:
        opened = FeatureIndex.open(session.find("index", index), session.workspace)
        with session.step("odd features"):
            report = odd_report(opened)
        found: dict[str, Any] = {"odd": report}
        views: list[RenderableType] = [odd_view(report, limit=limit)]
        if against is not None:
            other = FeatureIndex.open(session.find("index", against), session.workspace)
            with session.step("stability"):
                found["stability"] = stability(opened, other)
            views.append(stability_view(found["stability"]))
        if ablate:
            with session.step("load model"):
                model = load(opened.overview().sources["model"], device=device, progress=session.progress)
            with session.step("ablate"):
                config = AblationConfig(contexts=contexts)
                measured = dense_ablation(opened, model, config=config, progress=session.progress)
            assert measured is not None  # there was a model
            found["ablation"] = measured
            views.append(ablation_view(measured))
        session.result(found, *views)


def odd_view(odd: "microtome.features.odd.Odd", *, limit: int) -> Group:
    """Counts, then a table a list, each cut at `limit`."""
    n = odd.counts
    said = (
        f"{odd.index}, {count(odd.n_features)} features: {count(n['dense'])} dense ({count(n['unexplained'])} of those listed unexplained), "
        f"{count(n['duplicates'])} pairs of duplicates, {count(n['dead'])} dead, {count(n['rare'])} ultra-rare, {count(n['one_token'])} on one token"
    )
    dead = ", ".join(map(str, odd.dead[:limit])) + (" …" if n["dead"] > limit else "")
    views = [Text(said, style="bold"), _dense(odd, limit), _duplicates(odd, limit)]
    views += [_lines("fire on fewer than 10 tokens", odd.rare[:limit]), _lines("fire on one token id alone", odd.one_token[:limit])]
    return Group(*views, Text(f"\ndead: {dead or 'none'}"))


def _dense(odd: "microtome.features.odd.Odd", limit: int) -> Table:
    table = titled("dense features")
    for heading in ("feature", "label", "density", "explained by", "antipode", "score", "both fire", "strongest test"):
        table.add_column(heading, justify="left" if heading in ("label", "explained by", "strongest test") else "right")
    for one in odd.dense[:limit]:
        pole = one.antipode
        other = ["", "", ""] if pole is None else [str(pole.feature), f"{pole.score:.2f}", f"{pole.cofire:.1%}"]
        best = max(one.categories, key=lambda each: each.value / each.bar)
        cells = [str(one.feature), plain(one.label), f"{one.density:.1%}", ", ".join(one.explained) or "nothing", *other]
        table.add_row(*map(Text, [*cells, f"{best.name} {best.value:.2f} (bar {best.bar:g})"]))
    return table


def _duplicates(odd: "microtome.features.odd.Odd", limit: int) -> Table:
    table = titled("duplicates: same decoder, same tokens")
    for heading in ("feature", "label", "other", "label", "decoder", "encoder", "Jaccard"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for pair in odd.duplicates[:limit]:
        cosines = [f"{pair.decoder_cosine:.3f}", f"{pair.encoder_cosine:.3f}", f"{pair.jaccard:.2f}"]
        table.add_row(*map(Text, [str(pair.feature), plain(pair.label), str(pair.other), plain(pair.other_label), *cosines]))
    return table


def _lines(title: str, found: "Sequence[microtome.features.odd.OddFeature]") -> Table:
    table = titled(title)
    for heading in ("feature", "site", "label", "fires on", "documents", "commonest token", "max"):
        table.add_column(heading, justify="left" if heading in ("site", "label", "commonest token") else "right")
    for one in found:
        cells = [
            str(one.feature),
            one.site,
            plain(one.label),
            f"{count(one.count)} tokens",
            count(one.documents),
            quoted(one.token),
            f"{one.max:.3g}",
        ]
        table.add_row(*map(Text, cells))
    return table


def stability_view(found: "microtome.features.odd.Stability") -> Group:
    """Principal angles, beside the controls."""
    table = titled(f"dense subspaces of {found.index} and {found.other}")
    for heading in ("subspaces", "dimensions", "shared", "range", "cosines", "single features"):
        table.add_column(heading, justify="left" if heading in ("subspaces", "cosines") else "right")
    for one in [each for each in (found.dense, *found.controls) if each is not None]:
        cosines = " ".join(f"{cosine:.2f}" for cosine in one.cosines[:8]) + (" …" if len(one.cosines) > 8 else "")
        spread = f"{one.low:.2f} to {one.high:.2f}" if one.draws > 1 else ""
        table.add_row(*map(Text, [one.name, str(one.dimension), f"{one.shared:.2f}", spread, cosines, f"{one.single:.2f}"]))
    said = (
        f"{count(found.n_dense)} dense features span {found.rank} of {count(found.width)} dimensions, "
        f"{count(found.other_dense)} of {found.other} span {found.other_rank}. "
        "shared: mean squared cosine of the principal angles, 1 for one subspace. "
        "single features: the largest cosine with one feature of the other, mean."
    )
    return Group(table, Text(said))


def ablation_view(found: "microtome.features.odd.Ablation") -> Group:
    """What the model loses without each subspace."""
    table = titled(f"without the span of {count(found.n_dense)} dense features, and of other subspaces as large")
    for heading in ("taken out", "KL", "95 %", "loss", "95 %", "of variance", "of length"):
        table.add_column(heading, justify="left" if heading == "taken out" else "right")
    for one in found.removed:
        kl, loss = f"{one.kl_low:.3g} to {one.kl_high:.3g}", f"{one.loss_low:+.3g} to {one.loss_high:+.3g}"
        table.add_row(*map(Text, [one.name, f"{one.kl:.3g}", kl, f"{one.loss:+.3g}", loss, f"{one.variance:.1%}", f"{one.norm:.1%}"]))
    places = ", ".join(f"{size} of {found.widths[site]} dimensions at {site}" for site, size in list(found.dimensions.items())[:4])
    more = f" and {len(found.dimensions) - 4} more sites" if len(found.dimensions) > 4 else ""
    said = f"{places}{more}; KL and rise of the loss in nats a token, over {count(found.tokens)} tokens of {found.contexts} contexts; {found.model}."
    return Group(table, Text(said))
