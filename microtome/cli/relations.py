"""What `microtome show INDEX FEATURE` can say beyond the card: links, relations, surroundings, loss and measured effects."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from microtome.cli.ask import Asked
from microtome.cli.cards import plain, quoted
from microtome.cli.links import links_views
from microtome.cli.listing import Listing
from microtome.cli.session import Session
from microtome.cli.words import count, counted
from microtome.config import fingerprint
from microtome.errors import CommandInvalid

if TYPE_CHECKING:
    import microtome.features

Flag = Annotated[bool, Parameter(negative=())]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Related:
    """More about one feature."""

    links: Flag = False
    """Also what the feature feeds and what feeds it."""
    over: str | None = None
    """The links on this corpus of the workspace instead of the index' own; its sums are made with the model once and kept in summaries/."""
    silenced: Flag = False
    """Also the features that it keeps from firing, measured with the model on a sample."""
    alike: Flag = False
    """Also the nearest features of its dictionary, by encoder and by decoder."""
    coactive: Flag = False
    """Also the features that fire on the same tokens."""
    suspects: Flag = False
    """Also features that it may be split with, or that may absorb it."""
    across: Flag = False
    """Also the same feature in the other dictionaries of the index: other layers, say."""
    match: str | None = None
    """Also the same feature in this other index of the workspace."""
    around: Flag = False
    """Also the n-grams around its firings, and where in documents it fires."""
    loss: Flag = False
    """Also how well the model predicts where it fires, once `microtome index INDEX --losses` was run."""
    effects: Flag = False
    """Also what ablating and doubling it does to the next token; measured with the model if that is not stored yet."""

    @property
    def given(self) -> tuple[str, ...]:
        """The options that are given."""
        return tuple(f"--{field.name}" for field in fields(self) if getattr(self, field.name) != field.default)

    def check(self, feature: int | None, *, asked: Asked) -> None:
        """Refuse where it would be left out: it all stands beside the card of one feature."""
        if not self.given:
            return
        said = ", ".join(self.given)
        if asked.ways:
            got = f"{said} and {', '.join(asked.ways)}"
            do = "Ask one after the other."
            raise CommandInvalid("that are several questions at once.", got=got, wanted="one of them", do=do)
        if feature is None:
            do = f"Give its number: microtome show wiki 1234 {self.given[0]}{' …' if self.given[0] in ('--over', '--match') else ''}"
            raise CommandInvalid("no feature is named to say this of.", got=f"{said} without a number", wanted="a feature", do=do)


def relations(
    session: Session, index: "microtome.features.FeatureIndex", *, asked: Related, feature: int, limit: int
) -> tuple[dict[str, Any], list[RenderableType]]:
    """The records by name, and their views."""
    found: dict[str, Any] = {}
    views: list[RenderableType] = []
    if asked.silenced and asked.over:
        what = "what a feature silences is measured on the index' own corpus."
        raise CommandInvalid(what, got="--silenced and --over", wanted="one of them", do="Leave one of them out.")
    if asked.links or asked.silenced or asked.over:
        model = _model(session, index) if asked.silenced else None
        over = _summary(session, index, corpus=asked.over, feature=feature) if asked.over else None
        with session.step("links"):
            found["downstream"] = index.downstream(feature, limit=limit, model=model, over=over)
            found["upstream"] = index.upstream(feature, limit=limit, over=over)
        views += [view for name in ("downstream", "upstream") for view in links_views(found[name])]
    if asked.alike:
        found["alike"] = index.alike(feature, limit=limit)
        views += _alike_views(found["alike"])
    if asked.coactive:
        found["coactive"] = index.coactive(feature, limit=limit)
        views.append(_coactive_view(found["coactive"]))
    if asked.suspects:
        found["suspects"] = index.suspects(feature, limit=limit)
        views.append(_suspects_view(found["suspects"]))
    if asked.across:
        found["across"] = index.across(feature, limit=limit)
        views += _match_views(found["across"], where="the other dictionaries of the index")
    if asked.match is not None:
        from microtome.features import FeatureIndex

        other = FeatureIndex.open(session.find("index", asked.match), session.workspace)
        found["match"] = index.match(feature, other, limit=limit)
        views += _match_views(found["match"], where=f"index {other.name}")
    if asked.around:
        found["around"] = index.surroundings(feature, limit=limit)
        views += _around_views(found["around"])
    if asked.loss:
        found["loss"] = index.loss(feature)
        views.append(_loss_view(found["loss"], name=index.name))
    if asked.effects:
        found["effects"] = _effects(session, index, feature)
        views += effects_views(found["effects"])
    return found, views


def _model(session: Session, index: "microtome.features.FeatureIndex") -> Any:
    from microtome.models import load

    with session.step("load model"):
        return load(index.overview().sources["model"], progress=session.progress)


def _summary(session: Session, index: "microtome.features.FeatureIndex", *, corpus: str, feature: int) -> "microtome.features.Summary":
    from microtome.activations import Corpus
    from microtome.features import Summary

    other = Corpus.open(session.find("corpus", corpus))
    made_of = fingerprint({**index.store.inputs, "corpus": other.id, "index": index.store.id})
    out = session.workspace.place("summary", f"{other.path.name}-{feature}-{made_of[:8]}")
    if out.name in session.workspace.names("summary"):
        return Summary.open(out)
    model = _model(session, index)
    with session.step("summarise", output=out) as step:
        found = index.summarise([feature], corpus=other, model=model, out=out, progress=session.progress)
        step.count(other.n_tokens, "tokens")
    return found


def _effects(session: Session, index: "microtome.features.FeatureIndex", feature: int) -> "microtome.features.Effects":
    stored = index.effects(feature)
    if stored is not None:
        return stored
    model = _model(session, index)
    with session.step("effects"):
        found = index.effects(feature, model=model)
    assert found is not None
    return found


def _alike_views(found: "microtome.features.Alikes") -> list[RenderableType]:
    headings = ("feature", "site", "label", "encoder", "decoder", "together on", "density")
    lists = {"reads alike (encoder cosine)": found.encoder, "writes alike (decoder cosine)": found.decoder}
    return [
        Listing(
            title=title,
            headings=headings,
            rows=[
                (str(x.number), x.site, x.label, f"{x.encoder:.2f}", f"{x.decoder:.2f}", counted(x.together, "token"), f"{x.density:.3%}")
                for x in listed
            ],
        )
        for title, listed in lists.items()
    ]


def _coactive_view(found: "Sequence[microtome.features.Coactive]") -> Listing:
    rows = [(str(x.number), x.site, x.label, f"{x.jaccard:.3f}", f"{x.pmi:.1f} bits", counted(x.count, "token"), f"{x.share:.0%}") for x in found]
    headings = ("feature", "site", "label", "Jaccard", "PMI", "together on", "of its firings")
    return Listing(title="fires together with", headings=headings, rows=rows)


def _suspects_view(found: "Sequence[microtome.features.Suspect]") -> Listing:
    rows = [
        (x.kind, str(x.number), x.label, f"{x.decoder:.2f}", f"{x.encoder:.2f}", count(x.together), f"{x.expected:.1f}", f"{x.strength:.2f}")
        for x in found
    ]
    headings = ("suspicion", "feature", "label", "decoder", "encoder", "together", "expected", "strength")
    return Listing(title="may be parts of one concept", headings=headings, rows=rows, names=("suspicion",))


def _match_views(found: "microtome.features.Matches", *, where: str) -> list[RenderableType]:
    null = "no tokens are shared" if found.null is None else f"moved along the tokens at most {found.null:.2f}"
    mutual = {True: ", the best is mutual", False: ", the best is not mutual", None: ""}[found.is_mutual]
    titles = {f"in {where} by correlation ({null}{mutual})": found.by_correlation, f"in {where} by decoder cosine": found.by_cosine}
    headings = ("feature", "site", "label", "correlation", "cosine", "together on", "density")
    return [
        Listing(
            title=title,
            headings=headings,
            rows=[
                (str(x.number), x.site, x.label, _share(x.correlation), _share(x.cosine), counted(x.count, "token"), f"{x.density:.3%}")
                for x in listed
            ],
        )
        for title, listed in titles.items()
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _around_views(found: "microtome.features.Surroundings") -> list[RenderableType]:
    headings = ("text", "firings", "share", "fires when it occurs")
    views: list[RenderableType] = []
    for title, grams in (("n-grams that end on it", found.before), ("n-grams that begin on it", found.after)):
        rows = [
            (" ".join(quoted(piece) for piece in x.pieces), count(x.count), f"{x.share:.0%}", f"{x.rate:.0%} of {count(x.occurrences)}")
            for x in grams
        ]
        views.append(Listing(title=title, headings=headings, rows=rows, texts=("text",)))
    rows = [(f"{x.low} – {x.high - 1}", count(x.count), f"{x.density:.3%}", f"×{x.lift:.2f}") for x in found.positions]
    return [*views, Listing(title="where in documents", headings=("tokens from the start", "firings", "density", "lift"), rows=rows)]


def _loss_view(found: "microtome.features.FeatureLoss | None", *, name: str) -> RenderableType:
    if found is None:
        return Text(f"\nloss where it fires: not measured yet; microtome index {name} --losses")
    rows = [("all firings", *map(_loss, (found.here, found.after)))]
    rows += [(f"{x.low:.3g} – {x.high:.3g}", _loss(x.here), _loss(x.after)) for x in found.slices]
    rows.append(("every token", f"{found.store_here:.2f}", f"{found.store_after:.2f}"))
    return Listing(title="loss in nats", headings=("activation", "of the token itself", "of the next one"), rows=rows, names=("activation",))


def _loss(value: "microtome.features.MeanLoss | None") -> str:
    return "–" if value is None else f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def effects_views(found: "microtome.features.Effects") -> list[RenderableType]:
    """What ablating and doubling does, beside the control."""
    if not found.changes:
        return [Text("\nmeasured effect: it never fires, so there is nothing to measure it on")]
    head = f"measured effect on the next token after {found.n} of its strongest examples ({plain(found.model)})"
    views: list[RenderableType] = [Text(f"\n{head}", style="bold")]
    for change in found.changes:
        name = "ablated" if change.factor == 0 else f"× {change.factor:g}"
        kl = f"KL {change.kl:.3g} [{change.kl_low:.3g}, {change.kl_high:.3g}]"
        control = f"another feature's direction {change.control:.3g} [{change.control_low:.3g}, {change.control_high:.3g}]"
        loss = "" if change.loss is None else f"; loss of the real next token {change.loss:+.3g}"
        views.append(Text(f"{name}: {kl}; {control}; larger in {change.larger} of {found.n}{loss}"))
        for verb, shifts in (("likelier", change.promoted), ("unlikelier", change.suppressed)):
            listed = ", ".join(f"{quoted(each.piece)} {each.change:+.2%}" for each in shifts[:8])
            views.append(Text(f"  {verb}: {listed or 'nothing'}"))
    return views
