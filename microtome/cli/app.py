"""The command `microtome`: its verbs, and how errors leave it."""

import json
import os
import sys
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError
from rich.console import Console

from microtome import __version__
from microtome.cli.chat import chat
from microtome.cli.check import check
from microtome.cli.demo import demo
from microtome.cli.direction import direction_app
from microtome.cli.dream import dream
from microtome.cli.export import export
from microtome.cli.harvest import harvest
from microtome.cli.index import index
from microtome.cli.keep import keep
from microtome.cli.map import map
from microtome.cli.odd import odd
from microtome.cli.serve import serve
from microtome.cli.show import show
from microtome.cli.steer import steer
from microtome.cli.trace import trace
from microtome.cli.train import train
from microtome.cli.variants import variants
from microtome.errors import CommandInvalid, MicrotomeError, SystemRefused

VERBS: tuple[Callable[..., None], ...] = (
    demo,
    harvest,
    train,
    index,
    show,
    odd,
    map,
    keep,
    dream,
    trace,
    steer,
    chat,
    export,
    variants,
    serve,
    check,
)
GROUPS: tuple[Callable[[], App], ...] = (direction_app,)
"""Verbs that have verbs of their own: `microtome direction concept`."""

_ABOUT = """Cut a language model's activations into features that a person can read.

Begin with `microtome demo`. Step by step: harvest, train, index, then show
or serve; trace says why the model said something, direction and steer change
what it does. `microtome VERB --help` has examples for every verb."""


def build_app() -> App:
    """The cyclopts application with every verb."""
    app = App(
        name="microtome",
        help=_ABOUT,
        version=f"microtome {__version__}",
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # `run` says how to resume
    )
    for order, verb in enumerate(VERBS):
        app.command(verb, sort_key=order)
    for order, make in enumerate(GROUPS):
        group = make()
        group.sort_key = len(VERBS) + order
        app.command(group)
    app["--help"].group = app["--version"].group = "Options"
    return app


def run(arguments: Sequence[str], *, app: App | None = None) -> int:
    """Run one command and return its exit code; errors go to standard error, with `--json` as JSON to standard output too."""
    try:
        (app or build_app())(arguments, exit_on_error=False, print_error=False, help_on_error=False)
    except CycloptsError as error:
        return _report(_explained(error, arguments), arguments)
    except MicrotomeError as error:
        return _report(error, arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "home directory" not in str(error):  # what `~nobody` raises
            raise
        return _report(_refused(error), arguments)
    return 0


def _report(error: MicrotomeError, arguments: Sequence[str]) -> int:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"{type(error).__name__}: ", style="bold red", end="")
    console.print(str(error), markup=False)
    if "--json" in arguments:
        print(json.dumps(error.to_json(), ensure_ascii=False))
    return 2


def _refused(error: OSError | RuntimeError) -> SystemRefused:
    """What the system said of a path, as an error of four parts."""
    reason, path = getattr(error, "strerror", None) or str(error), getattr(error, "filename", None)
    do = "Check the paths that you gave and your permissions; --workspace chooses another folder to write to."
    got = None if path is None else str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}… ({len(str(path))} characters)"
    return SystemRefused(f"the system does not allow it: {reason.rstrip('.')}.", got=got, wanted="a path that can be used so", do=do)


def _explained(error: CycloptsError, arguments: Sequence[str]) -> CommandInvalid:
    """Cyclopts' message (which names the nearest verb or option) as an error of four parts."""
    verbs = [*(verb.__name__ for verb in VERBS), *(name for make in GROUPS for name in make().name)]
    verb = next((argument for argument in arguments if argument in verbs), None)
    what, _, hint = str(error).partition(" Did you mean ")
    do = f"Did you mean {hint.split('?')[0]}? " if hint else ""
    help_line = f"`microtome {verb} --help` lists what it takes." if verb else "`microtome --help` lists the verbs."
    wanted = None if verb else ", ".join(verbs)
    return CommandInvalid(what.strip(), got=f"microtome {' '.join(arguments)}", wanted=wanted, do=do + help_line)
