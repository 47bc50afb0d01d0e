"""The server as a process: it says where it is, and Ctrl-C ends it in good order."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from tests.cli.calls import call


def test_serve_prints_its_address_as_json_and_ends_quietly_at_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "microtome", "serve", str(tmp_path), "--port", "0", "--no-browser", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = json.loads(server.stdout.readline())["address"]
            with urlopen(address, timeout=60) as page:
                assert page.status == 200
            server.send_signal(signal.SIGINT)
            rest, err = server.communicate(timeout=60)
        finally:
            server.kill()
        assert (server.returncode, rest, err) == (0, "", "")


def test_the_demo_says_that_json_never_serves() -> None:
    assert "never serve" in " ".join(call("demo", "--help").out.replace("│", " ").split())
