"""Answers: records as JSON with an ETag, errors as their four parts."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from microtome.errors import (
    ArtifactMissing,
    DocumentNotFound,
    FeatureNotFound,
    GraphInvalid,
    MicrotomeError,
    ModelBusy,
    ModelNotFound,
    NodeNotFound,
    PageNotFound,
    QueryInvalid,
    RequestRefused,
    ServerFailed,
    TokenOutOfRange,
    WorkspaceBusy,
)
from microtome.web.guard import is_loopback, is_protocol
from microtome.web.protocol_errors import error_json

_STATUS: tuple[tuple[type[MicrotomeError], int], ...] = (
    (ArtifactMissing, 404),
    (FeatureNotFound, 404),
    (DocumentNotFound, 404),
    (NodeNotFound, 404),
    (GraphInvalid, 422),
    (QueryInvalid, 422),
    (TokenOutOfRange, 422),
    (RequestRefused, 403),
    (WorkspaceBusy, 503),
    (ModelBusy, 503),
    (ServerFailed, 500),
)
_PROTOCOL_STATUS: tuple[tuple[type[MicrotomeError], int], ...] = (
    (ModelNotFound, 404),
    (ModelBusy, 429),
    (RequestRefused, 403),
    (PageNotFound, 404),
    (WorkspaceBusy, 503),
    (ServerFailed, 500),
)
_GZIP_FROM_BYTES = 4096


def encode(value: Any) -> bytes:
    """The JSON of a record: what `microtome.config.to_dict` gives, without building it first. NaN is our bug and raises."""
    return json.dumps(value, default=_shallow, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _shallow(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def with_recipe(record: Any, recipe: Mapping[str, str]) -> dict[str, Any]:
    """A record's fields and, under `reproduce`, the Python and the command line that give the same."""
    return {**_shallow(record), "reproduce": recipe}


def reply(request: Request, value: Any, *, status: int = 200) -> Response:
    """JSON with an ETag of its bytes (304 when the browser has them); gzip when it leaves the machine, where bytes cost more than time."""
    return reply_bytes(request, encode(value), status=status)


def reply_bytes(request: Request, body: bytes, *, status: int = 200) -> Response:
    """The same of JSON that is encoded already."""
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    if status == 200 and etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    remote = request.client is not None and not is_loopback(request.client.host)
    if remote and len(body) >= _GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        packer = zlib.compressobj(4, zlib.DEFLATED, 31)
        body = packer.compress(body) + packer.flush()
        headers |= {"content-encoding": "gzip", "vary": "accept-encoding"}
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def error_reply(request: Request, error: MicrotomeError) -> Response:
    """The four parts, with the HTTP status that fits the kind (400 for the rest)."""
    return parts_reply(request, error.to_json(), status=status_of(error, is_protocol=is_protocol(request.scope["path"])))


def parts_reply(request: Request, parts: Mapping[str, Any], *, status: int) -> Response:
    """Four parts as a page or a client of the OpenAI protocol expects them."""
    if not is_protocol(request.scope["path"]):
        return reply(request, parts, status=status)
    answer = Response(encode(error_json(parts, status=status)), status_code=status, media_type="application/json")
    if status in (429, 503):
        answer.headers["retry-after"] = "1"
    return answer


def status_of(error: MicrotomeError, *, is_protocol: bool) -> int:
    """The HTTP status of a kind of error. The protocol has some of its own: 429 for a full queue, 404 for a model, 400 for what is asked wrongly."""
    table = _PROTOCOL_STATUS if is_protocol else _STATUS
    return next((status for kind, status in table if isinstance(error, kind)), 400)
