"""The command line: one verb a file, each of which parses, calls the rooms and prints; nothing is computed here.

Begin with `microtome demo`, or go step by step: `harvest`, `train`, `index`, `show`, `serve`; `check` looks at a model. Everything is
written into a workspace (`--workspace`, `$MICROTOME_WORKSPACE`, else ./microtome-workspace). Results go to standard output (with `--json`
as one JSON document), progress and costs to standard error. Exit codes: 0 done, 2 an error that its four parts explain, 130 interrupted.

To add a verb: one file with one function whose docstring is its help (with examples), listed in `microtome.cli.app.VERBS`, and a line in
the table of the README. Heavy packages are imported inside the function, so that `microtome --help` stays instant.
"""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    from microtome.devices import quiet_threads

    quiet_threads()  # before torch is imported: it reads the setting once
    from microtome.cli.app import run

    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))
