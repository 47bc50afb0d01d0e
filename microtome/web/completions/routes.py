"""The addresses of the OpenAI protocol, health and metrics. What a client no longer waits for is taken back."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import fields
from typing import Any, TypeAlias

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from microtome.errors import MicrotomeError, ModelBusy
from microtome.steering import Generation
from microtome.steering.serving import Metrics, Piece, Ticket
from microtome.web.completions.asked import Asked, read_chat, read_completion
from microtome.web.completions.offers import Offer, Offers, Order
from microtome.web.completions.told import Telling, event
from microtome.web.protocol_errors import error_json
from microtome.web.replies import status_of

_Ended: TypeAlias = tuple[int, "Future[Generation]"]


def completion_routes(offers: Offers) -> APIRouter:
    """All routes under `/v1`, `/health` and `/metrics`."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await _answer(request, read_chat(await request.body(), max_new_tokens=offers.limits.new_tokens), offers=offers)

    @router.post("/v1/completions")
    async def completion(request: Request) -> Response:
        return await _answer(request, read_completion(await request.body(), max_new_tokens=offers.limits.new_tokens), offers=offers)

    @router.get("/v1/models")
    def models() -> Response:
        return JSONResponse({"object": "list", "data": [_model_json(offer) for offer in offers.list()]})

    @router.get("/v1/models/{name:path}")
    def model(name: str) -> Response:
        return JSONResponse(_model_json(offers.find(name)))

    @router.get("/health")
    def health() -> Response:
        busy = {ref: {"waiting": found.waiting, "running": found.running} for ref, found in offers.metrics().items()}
        return JSONResponse({"status": "ok", "models": offers.states(), "rows": busy})

    @router.get("/metrics")
    def metrics() -> Response:
        return Response(_exposition(offers.metrics()), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _answer(request: Request, asked: Asked, *, offers: Offers) -> Response:
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Piece | _Ended]()

    def put(item: Piece | _Ended) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended, and its loop with it
            loop.call_soon_threadsafe(queue.put_nowait, item)

    order = await offers.take(asked, on_piece=put if asked.is_stream else None)
    for row, ticket in enumerate(order.tickets):
        ticket.future.add_done_callback(lambda future, row=row: put((row, future)))
    telling = Telling(
        is_chat=asked.is_chat,
        model=order.offer.name,
        fingerprint=order.fingerprint,
        edits=order.edits.fingerprint if order.edits.edits else None,
        tokenizer=order.model.tokenizer,
        has_logprobs=asked.has_logprobs,
    )
    if asked.is_stream:
        return _Stream(_events(queue, order, asked=asked, telling=telling), order.tickets)
    made = await _all(queue, order.tickets, receive=request.receive)
    return JSONResponse(telling.whole(made, n=asked.n))


async def _all(queue: "asyncio.Queue[Piece | _Ended]", tickets: Sequence[Ticket], *, receive: Receive) -> list[Generation]:
    """Wait for every row, unless the client goes. The first error ends the others."""
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        for _ in tickets:
            waiting = asyncio.ensure_future(queue.get())
            await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                do = "Nothing is to be done: the request was taken back."
                raise ModelBusy("the client went away.", got="a closed connection", wanted="a client that waits", do=do)
            ended = waiting.result()
            assert not isinstance(ended, Piece)
            ended[1].result()
        return [ticket.future.result() for ticket in tickets]
    finally:
        gone.cancel()
        _cancel(tickets)


async def _events(queue: "asyncio.Queue[Piece | _Ended]", order: Order, *, asked: Asked, telling: Telling) -> AsyncIterator[bytes]:
    n_left = len(order.tickets)
    if asked.is_chat:
        for row in range(n_left):
            yield event(telling.opening(row))
    try:
        while n_left:
            item = await queue.get()
            if isinstance(item, Piece):
                yield event(telling.piece(item))
                continue
            yield event(telling.closing(item[0], item[1].result()))
            n_left -= 1
        if asked.has_usage:
            yield event(telling.totals([ticket.future.result() for ticket in order.tickets], n=asked.n))
    except MicrotomeError as error:  # the answer has begun, so its status can no longer say so
        yield event(error_json(error.to_json(), status=status_of(error, is_protocol=True)))
    yield b"data: [DONE]\n\n"


class _Stream(Response):
    """Server-sent events, ended when the client goes; the rows are then taken back."""

    def __init__(self, events: AsyncIterator[bytes], tickets: Sequence[Ticket]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"}, media_type="text/event-stream")
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._events = events
        self._tickets = tickets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        sending = asyncio.ensure_future(self._send(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            _cancel(self._tickets)
            for task in (gone, sending):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for chunk in self._events:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _cancel(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.cancel()


def _model_json(offer: Offer) -> dict[str, Any]:
    about = {"model": offer.model, "edits": offer.edits}
    return {"id": offer.name, "object": "model", "created": 0, "owned_by": "microtome", "microtome": about}


_ROWS: tuple[tuple[str, str, Callable[[Metrics], float]], ...] = (
    ("waiting", "gauge", lambda found: found.waiting),
    ("running", "gauge", lambda found: found.running),
    *(
        (f"{item.name}_total", "counter", lambda found, name=item.name: getattr(found, name))
        for item in fields(Metrics)
        if item.name not in ("waiting", "running", "endings")
    ),
)


def _exposition(found: Mapping[str, Metrics]) -> str:
    """Prometheus' text format."""
    lines: list[str] = []
    for name, kind, value in _ROWS:
        lines.append(f"# TYPE microtome_{name} {kind}")
        lines += [f"microtome_{name}{{model={json.dumps(ref)}}} {value(metrics):.15g}" for ref, metrics in found.items()]
    lines.append("# TYPE microtome_endings_total counter")
    lines += [
        f"microtome_endings_total{{model={json.dumps(ref)},ending={json.dumps(ending)}}} {n}"
        for ref, metrics in found.items()
        for ending, n in metrics.endings.items()
    ]
    return "\n".join(lines) + "\n"
