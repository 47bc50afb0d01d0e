"""What every verb shares: the workspace, progress, costs, and one way to print a result."""

import json
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console, RenderableType

from microtome.artifacts import MANIFEST, Workspace
from microtome.cli.progress import Bars, Lines
from microtome.cli.words import count, duration, size
from microtome.config import to_dict
from microtome.costs import Cost, CostLedger, Step

DEFAULT_WORKSPACE = Path("microtome-workspace")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb."""

    workspace: Annotated[Path, Parameter(alias="-w", env_var="MICROTOME_WORKSPACE")] = DEFAULT_WORKSPACE
    """Folder that holds the artifacts."""
    json: Annotated[bool, Parameter(negative=())] = False
    """Print the result as one JSON document."""


class Session:
    """One run of a verb: `with Session(common) as session:`; progress and costs go to standard error, the result to standard output."""

    def __init__(self, common: Common) -> None:
        self.workspace = Workspace(common.workspace)
        self.json = common.json
        self.ledger = CostLedger()
        self._out = Console(highlight=False, emoji=False)
        self._err = Console(stderr=True, highlight=False, emoji=False)
        self.progress: Bars | Lines = Bars(self._err) if self._err.is_terminal else Lines(self._err)
        self._open = ExitStack()

    def __enter__(self) -> "Session":
        self._open.enter_context(self.progress)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
        if kind is None and self.ledger.session:
            self.note(cost_line(self.ledger.session))

    @contextmanager
    def step(self, name: str, *, output: Path | None = None) -> Generator[Step]:
        """Measure a step; `output` is the artifact it makes, whose presence at the start means that nothing had to be done."""
        with self.ledger.step(name) as step:
            step.output, step.reused = output, output is not None and (output / MANIFEST).is_file()
            yield step

    def silence(self) -> None:
        """Say and print nothing: another process does."""
        self._out.quiet = self._err.quiet = True

    def find(self, kind: str, name: str | None) -> Path:
        """An artifact by its name in the workspace, or by its path; without a name the only one of its kind."""
        if name is not None and (Path(name) / MANIFEST).is_file():
            return Path(name)
        return self.workspace.find(kind, name)

    def note(self, text: str) -> None:
        """A remark for the person at the terminal, on standard error."""
        self._err.print(text, markup=False, soft_wrap=True)

    def result(self, result: Mapping[str, Any], *views: RenderableType) -> None:
        """Print the outcome: with `--json` the mapping as JSON, otherwise the views."""
        self._open.close()
        if self.json and not self._out.quiet:
            costs = [to_dict(cost) for cost in self.ledger.session]
            print(json.dumps(to_dict({**result, "costs": costs}), ensure_ascii=False, allow_nan=False))
            return
        for view in views:
            self._out.print(view, markup=False, soft_wrap=isinstance(view, str))


def cost_line(costs: list[Cost]) -> str:
    """`cost: 41 s · 14,600 tokens/s · peak memory 1.2 GB · 680 MB written` over the steps of one run."""
    worked = [cost for cost in costs if not cost.reused]
    if not worked:
        return "cost: nothing had to be done; all of it was there"
    parts = [duration(sum(cost.seconds for cost in worked))]
    main = max(worked, key=lambda cost: cost.seconds)
    if main.rate is not None:
        parts.append(f"{count(round(main.rate))} {main.unit}/s" + (f" ({main.step})" if len(worked) > 1 else ""))
    parts.append(f"peak memory {size(max(cost.peak_memory_bytes for cost in worked))}")
    written = sum(cost.bytes_written for cost in worked)
    if written:
        parts.append(f"{size(written)} written")
    return "cost: " + " · ".join(parts)
