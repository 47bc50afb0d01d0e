"""The report's sections as markup: each function draws one of them from what `report_content.gather` collected."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from microtome.costs import Cost
from microtome.features import Card, Window
from microtome.training import CONTROLS
from microtome.web.charts import Series, curves, histogram, spark, strip
from microtome.web.markup import Markup, join, tag
from microtome.web.report_content import Content, Gallery
from microtome.web.report_graph import graph_section
from microtome.web.report_steering import steering_section

_ARROW = '<svg viewBox="0 0 22 14" aria-hidden="true"><path d="M1 7h19M14 1l6 6-6 6"/></svg>'


def render(content: Content) -> str:
    """The whole page."""
    sources = content.overview.sources
    title = f"{_model(content)} at {sources['reads']}: {content.overview.counts['features']:,} features"
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"),
        tag("title", f"microtome: {title}"),
        tag("style", Markup(files("microtome.web").joinpath("report.css").read_text())),
    )
    sections = (_top, _quality, _spread, _training, _labels, _cards, _steering, _graph, _cost, _foot)
    main = tag("main", *(section(content) for section in sections))
    return Markup("<!doctype html>\n") + tag("html", tag("head", head), tag("body", main), lang="en") + "\n"


def _top(content: Content) -> Markup:
    overview, counts = content.overview, content.overview.counts
    sources = overview.sources
    firing = counts["features"] - counts["dead"]
    tiles = {
        "features": f"{counts['features']:,}",
        "fire somewhere": f"{firing:,}",
        "tokens read": f"{counts['tokens']:,}",
        "features active on a token": f"{overview.l0:.1f}",
        **_headline(content.quality),
    }
    quantised = sources.get("quantised", "")
    warning = (
        tag("p", f"The model's weights are {_quantisation(quantised)}. Its figures are not those of the original.", class_="warning soft")
        if quantised
        else None
    )
    return join(
        tag("p", "microtome report", class_="soft"),
        tag("h1", f"What is inside {_model(content)} at {sources['reads']}"),
        tag(
            "p",
            f"The model read {counts['documents']:,} documents of “{sources['corpus']}”. Its activations were cut into "
            f"{counts['features']:,} features; this page says how well that went, and shows some of them.",
            class_="lead",
        ),
        warning,
        tag("div", *(tag("div", tag("b", value), tag("span", name), class_="tile") for name, value in tiles.items()), class_="tiles"),
        tag("h2", "The path"),
        _path(content),
    )


def _quantisation(name: str) -> str:
    """The width that the name of a scheme says: "quantised (Q4_K_M, 4 bits a weight)"."""
    width = re.match(r"I?Q(\d+)(_|$)", name, re.IGNORECASE)
    return f"quantised ({name}, {width[1]} bits a weight)" if width else f"quantised ({name})"


def _model(content: Content) -> str:
    """The model's name; that of the packaged one is more telling than its reference."""
    reference = content.overview.sources["model"]
    return "SmolLM2-135M-Instruct" if reference == "demo" else reference


def _path(content: Content) -> Markup:
    overview, counts = content.overview, content.overview.counts
    active = counts["nonzeros"] / max(1, counts["kept"])
    stages = (
        ("text", f"{counts['documents']:,} documents of {overview.sources['corpus']}"),
        ("corpus", f"{counts['tokens']:,} tokens, each with its document and role"),
        ("activations", f"{overview.sources['reads']} of {_model(content)}; {counts['kept']:,} tokens kept"),
        ("dictionary", f"{counts['features']:,} features, {active:.3g} active a token"),
        ("index", f"{counts['nonzeros']:,} firings, found from either side"),
    )
    items: list[Markup] = []
    for name, words in stages:
        if items:
            items.append(tag("li", Markup(_ARROW), class_="arrow"))
        items.append(tag("li", tag("b", name), tag("span", words)))
    return tag("ol", *items, class_="path")


def _results(quality: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The reported figures (`microtome.stats.Result` as JSON), the most telling first."""
    return [quality[key] for key in ("fvu", "ce_recovered", "l0", "dead_share") if quality.get(key)]


def _headline(quality: Mapping[str, Any]) -> dict[str, str]:
    """Figures that stand at the top of the page, by what they are called there."""
    named = {"fvu": "of the variance left unexplained (FVU)", "ce_recovered": "of the model's prediction kept when spliced in"}
    return {name: f"{quality[key]['value']:.1%}" for key, name in named.items() if quality.get(key)}


def _quality(content: Content) -> Markup:
    rows: list[Markup] = []
    results = _results(content.quality)
    beside = [name for name in CONTROLS if any(name in (figure.get("baselines") or {}) for figure in results)]
    for figure in results:
        controls: Mapping[str, float] = figure.get("baselines") or {}
        low, high = figure.get("low"), figure.get("high")
        interval = f"{_number(low)} – {_number(high)}" if low is not None and high is not None else "–"
        what = tag("td", figure["name"], tag("small", figure.get("definition") or ""), class_="what")
        cells = [_number(figure["value"]), interval, *(_number(controls[name]) if name in controls else "–" for name in beside)]
        picture = strip(figure["value"], low=low, high=high, controls=controls)
        rows.append(tag("tr", what, *(tag("td", cell, class_="num") for cell in cells), tag("td", picture, class_="picture")))
    heads = [tag("th", "held-out figure"), *(tag("th", name, class_="num") for name in ("value", "95 % interval", *beside)), tag("th", "")]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    legend = (
        "Filled dot: this dictionary, with its interval over documents. Rings: its controls, the mean activation dashed; point at one for its name."
    )
    left_out: Mapping[str, str] = content.quality.get("controls_left_out") or {}
    without = " ".join(f"No {name} control: {why}." for name, why in left_out.items())
    undefined = content.quality.get("ce_undefined", "")
    remark = tag("p", f"Cross-entropy recovered is not defined: {undefined}.", class_="soft") if undefined else Markup("")
    figures = join(tag("div", table, class_="scroll"), tag("p", f"{legend} {without}".rstrip(), class_="soft"), remark, _densities(content.quality))
    body = figures if rows else tag("p", "not measured", class_="empty")
    return join(tag("h2", "How good is the dictionary?"), tag("p", "Measured on documents that training did not see, beside controls."), body)


def _densities(quality: Mapping[str, Any]) -> Markup:
    """Held-out densities of the dictionary and of the random control, in the same bins; the mean has no feature that fires."""
    controls = {control["name"]: control for control in quality.get("control_densities", ())}
    if "random" not in controls:
        return Markup("")
    edges = [10**edge for edge in quality["density_edges"]]
    sides = {"this dictionary": (quality["density_counts"], quality["never_active"])}
    sides["random control"] = (controls["random"]["counts"], controls["random"]["never_active"])
    figures: list[Markup] = []
    for name, (counts, never) in sides.items():
        chart = histogram(edges, counts, log=True, x_label="share of held-out tokens on which a feature fires", y_label="features")
        figures.append(tag("figure", chart, tag("figcaption", f"{name}: {never:,} features fire on none of these tokens")))
    return tag("div", *figures, class_="pair")


def _spread(content: Content) -> Markup:
    counts, density = content.overview.counts, content.overview.density
    chart = histogram(density.edges, density.counts, log=density.log, x_label="density: share of tokens on which a feature fires", y_label="features")
    facts = (
        ("fire nowhere in the corpus (dead)", counts["dead"]),
        ("fire on fewer than 10 tokens (rare)", counts["rare"]),
        ("fire on more than a tenth of the tokens (dense)", counts["dense"]),
    )
    rows = [
        tag("tr", tag("td", name), tag("td", f"{n:,}", class_="num"), tag("td", f"{n / counts['features']:.1%}", class_="num")) for name, n in facts
    ]
    words = "Most features should be rare but not silent. Dense ones rarely have one meaning; dead ones are wasted."
    table = join(tag("table", tag("tbody", *rows)), tag("p", words, class_="soft"))
    return join(tag("h2", "How often do features fire?"), tag("div", tag("figure", chart), tag("div", table), class_="pair"))


def _training(content: Content) -> Markup | None:
    figures: list[Markup] = []
    search = _search_points(content)
    if search:
        rates, values = zip(*search, strict=True)
        chart = curves(
            [Series(name="search", x=rates, y=values)],
            x_label="peak learning rate",
            y_label="FVU on held-out tokens",
            log_x=True,
            dots=True,
            best=content.training.get("lr"),
        )
        figures.append(
            tag("figure", chart, tag("figcaption", "Each learning rate was tried on the same tokens; the one with the lowest FVU trained."))
        )
    losses = [(step["tokens"], step["fvu"]) for step in content.steps if step["phase"] == "train"]
    if losses:
        xs, ys = zip(*losses, strict=True)
        chart = curves([Series(name="FVU", x=xs, y=ys)], x_label="tokens trained on", y_label="FVU of the training batch")
        figures.append(tag("figure", chart, tag("figcaption", "The share of the variance left unexplained, batch by batch.")))
    return join(tag("h2", "Training"), tag("div", *figures, class_="pair")) if figures else None


def _search_points(content: Content) -> list[tuple[float, float]]:
    """(learning rate, FVU on the dev split) of every trial that did not diverge."""
    trials = content.training.get("trials") or []
    return sorted((trial["lr"], trial["dev_fvu"]) for trial in trials if trial["dev_fvu"] is not None)


def _labels(content: Content) -> Markup:
    overview = content.overview
    chart = histogram(overview.f1.edges, overview.f1.counts, log=False, x_label="F1 of the rule label over the whole corpus", y_label="features")
    kinds = {kind: n for kind, n in overview.rules.items() if kind != "weak"}
    rows = [tag("tr", tag("td", kind), tag("td", f"{n:,}", class_="num")) for kind, n in sorted(kinds.items(), key=lambda item: -item[1])]
    weak = overview.rules.get("weak", 0)
    words = f"{weak:,} of these rules are weak (F1 below 0.3): they name what comes closest, and their text says that they are weak."
    table = tag("table", tag("thead", tag("tr", tag("th", "best rule is about"), tag("th", "features", class_="num"))), tag("tbody", *rows))
    intro = "Every feature was named by the rule that predicts it best: a token, a pair of tokens, a topic, a position. No language model was asked."
    pair = tag("div", tag("figure", chart), tag("div", table, tag("p", words, class_="soft")), class_="pair")
    return join(tag("h2", "What the rules can name"), tag("p", intro), pair)


def _cards(content: Content) -> Markup:
    return join(tag("h2", "Some features"), *(_gallery(gallery) for gallery in content.galleries if gallery.cards))


def _gallery(gallery: Gallery) -> Markup:
    return join(
        tag("h3", gallery.title), tag("p", gallery.how, class_="soft"), tag("div", *(_card(card) for card in gallery.cards), class_="gallery")
    )


def _card(card: Card) -> Markup:
    stats, rule = card.statistics, card.rule
    labelled = f"rule F1 {rule.f1:.2f} (by chance {rule.f1_null:.2f})"
    figures = f"density {_share(stats.density)} · {stats.documents:,} documents · max {stats.max:.3g} · {labelled}"
    head = tag("header", tag("h3", tag("em", f"{card.feature}"), card.label.text), spark(_coarse(card.histogram.counts)))
    examples = tag("ul", *(_example(window) for window in card.top[:4]), class_="examples")
    raises = [tag("span", _visible(entry.piece), class_="chip") for entry in card.logits.top[:6]]
    tokens = [tag("span", _visible(stat.piece), class_="chip") for stat in card.tokens.tokens[:5]]
    return tag(
        "article",
        head,
        tag("p", figures, class_="figures"),
        examples,
        tag("p", "fires on ", *tokens, class_="chips"),
        tag("p", "raises ", *raises, class_="chips"),
        class_="feature",
    )


def _example(window: Window, *, before: int = 18, after: int = 9) -> Markup:
    """The text around the peak; tokens are tinted by their activation as a share of the peak's."""
    low, high = max(0, window.peak - before), min(len(window.pieces), window.peak + after + 1)
    pieces: list[Markup | str] = ["… " if low or window.offset else ""]
    for i in range(low, high):
        share = window.activations[i] / window.activation if window.activation else 0.0
        if share > 0:
            name = "t peak" if i == window.peak else "t"
            pieces.append(tag("span", window.pieces[i], class_=name, style=f"--a:{0.12 + 0.6 * share:.2f}"))
        else:
            pieces.append(window.pieces[i])
    label = f" · {window.corpus_label}" if window.corpus_label else ""
    return tag("li", *pieces, " …" if high < len(window.pieces) else "", tag("small", f"{window.activation:.2f} · {window.title}{label}"))


def _steering(content: Content) -> Markup | None:
    return None if content.steering is None else steering_section(content.steering)


def _graph(content: Content) -> Markup | None:
    return None if content.graph is None else graph_section(content.graph)


def _cost(content: Content) -> Markup | None:
    if not content.costs:
        return None
    rows = [
        tag(
            "tr",
            tag("td", cost.step),
            *(tag("td", cell, class_="num") for cell in _cost_cells(cost)),
        )
        for cost in content.costs
    ]
    heads = ("step", "time", "throughput", "written", "peak memory")
    head = tag("tr", *(tag("th", name, class_=None if name == "step" else "num") for name in heads))
    seconds, written = sum(cost.seconds for cost in content.costs), sum(cost.bytes_written for cost in content.costs)
    peak = max(cost.peak_memory_bytes for cost in content.costs)
    total = tag("tr", tag("td", "all"), *(tag("td", cell, class_="num") for cell in (_time(seconds), "", _size(written), _size(peak))))
    table = tag("table", tag("thead", head), tag("tbody", *rows), tag("tfoot", total))
    words = "Wall time of the work itself, added up over interruptions; a later run that finds a step done leaves its row as it is."
    return join(tag("h2", "What each step cost"), tag("div", table, class_="scroll"), tag("p", words, class_="soft"))


def _cost_cells(cost: Cost) -> tuple[str, str, str, str]:
    rate = f"{cost.rate:,.0f} {cost.unit}/s" if cost.rate is not None else ""
    written = _size(cost.bytes_written) if cost.bytes_written else ""
    return _time(cost.seconds), rate, written, _size(cost.peak_memory_bytes)


def _foot(content: Content) -> Markup:
    commands = tag("pre", tag("code", "\n".join(content.commands))) if content.commands else None
    made = [f"{kind} {manifest.id}" for kind, manifest in content.manifests.items()]
    packages = content.manifests["index"].packages
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    reproduce = join(tag("h2", "Reproduce this"), commands) if commands else None
    return join(reproduce, tag("footer", tag("p", "Artifacts: " + ", ".join(made)), tag("p", f"Made with {versions}.")))


def _coarse(counts: Sequence[int], bins: int = 32) -> list[int]:
    """A histogram with neighbouring bins added together, for a small picture."""
    width = max(1, len(counts) // bins)
    return [sum(counts[i : i + width]) for i in range(0, len(counts), width)]


def _visible(piece: str) -> str:
    return piece.replace("\n", "↵").replace("\t", "⇥").replace(" ", "·") or "∅"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _share(value: float) -> str:
    return f"{value:.2%}" if value >= 0.001 else f"{value:.4%}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {round(seconds % 60):02d} s"


def _size(bytes: int) -> str:
    return f"{bytes / 1e9:.2f} GB" if bytes >= 1e9 else f"{bytes / 1e6:.1f} MB"
