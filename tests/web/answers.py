"""Asking the JSON twins, and what they should say."""

import json
from typing import Any

from fastapi.testclient import TestClient

from microtome.config import to_dict

WRITE = {"X-Microtome": "1"}


def said(record: Any) -> Any:
    """A record as it looks after a trip through JSON."""
    return json.loads(json.dumps(to_dict(record)))


def asked(client: TestClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    recipe = content.pop("reproduce")
    assert set(recipe) == {"python", "shell"}
    return content


def ran(lines: str) -> Any:
    """What the Python lines of a page give: the value of the last one."""
    *before, last = lines.splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(before), names)
    return eval(last, names)
