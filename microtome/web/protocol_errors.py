"""Errors in the shape that clients of the OpenAI protocol read."""

from collections.abc import Mapping
from typing import Any


def error_json(parts: Mapping[str, Any], *, status: int, param: str | None = None) -> dict[str, Any]:
    """Our four parts in the protocol's shape: the message says them all, and each stands by itself beside it."""
    said = [str(parts["what"]), *(f"{name}: {parts[name]}." for name in ("got", "wanted") if parts.get(name)), str(parts["do"])]
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    rest = {name: parts.get(name) for name in ("what", "got", "wanted", "do", "docs")}
    return {"error": {"message": " ".join(said), "type": kind, "param": param, "code": parts["error"], **rest}}
