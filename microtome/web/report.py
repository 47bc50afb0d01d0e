"""The report: one self-contained HTML file with pictures about an index and what it was made from. It asks nothing of any other file or host.

`report_content` gathers what the rooms below state (nothing is computed here), `report_parts` draws it. All text of data sets and models is
escaped by `markup`; there is no script in the file.
"""

from collections.abc import Sequence
from pathlib import Path

from microtome.artifacts import Workspace, write_atomic
from microtome.costs import Cost
from microtome.progress import Progress
from microtome.web.report_content import gather
from microtome.web.report_parts import render


def write_report(
    workspace: Workspace,
    out: Path,
    *,
    index: str | None = None,
    costs: Sequence[Cost] = (),
    commands: Sequence[str] = (),
    seed: int = 0,
    n_cards: int = 24,
    progress: Progress | None = None,
) -> Path:
    """Write the report about an index (the only one unless named) to `out`, and return its path.

    Half of the cards are drawn at random with `seed` from the features that fire; the other half have the strongest rule labels.
    """
    content = gather(workspace, index=index, costs=costs, commands=commands, seed=seed, n_cards=n_cards, progress=progress)
    write_atomic(out, render(content))
    return out
