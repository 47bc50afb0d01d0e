"""`microtome serve`: the workbench in the browser."""

from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from microtome.cli.session import DEFAULT_WORKSPACE
from microtome.errors import ArtifactMissing


def serve(
    workspace: Annotated[Path, Parameter(alias="-w", env_var="MICROTOME_WORKSPACE")] = DEFAULT_WORKSPACE,
    *,
    model: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    host: str = "127.0.0.1",
    port: int = 8765,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Serve a workspace as web pages on this machine. Nothing is sent anywhere else; Ctrl-C ends it.

    It also speaks the OpenAI protocol under /v1: models of the workspace's
    indexes, those of --model, and saved variants, with a field `edits`.

    Examples:

        microtome serve microtome-demo

        microtome serve microtome-workspace --port 9000 --no-browser

        microtome serve microtome-workspace --model demo

    Parameters
    ----------
    workspace
        Folder of artifacts.
    model
        Models offered to clients of the OpenAI protocol, beside those of the indexes and the saved variants.
    host
        Address to listen on; anything but this machine's own needs the token that is printed.
    port
        Port to listen on.
    browser
        Open the page in the browser; --no-browser does not.
    json
        Print the address as one JSON document once it is listened on.
    """
    if not workspace.is_dir():
        do = "Give the folder that your artifacts are in, or make one with `microtome demo`."
        raise ArtifactMissing(f"there is no workspace at {workspace}.", got="no such folder", wanted="a folder of artifacts", do=do)
    from microtome.web import serve as run_server

    run_server(workspace, models=model, host=host, port=port, open_browser=browser, on_ready=_print_json if json else None)


def _print_json(address: str) -> None:
    print(dumps({"address": address}), flush=True)
