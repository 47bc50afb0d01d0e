"""One model that answers many requests at once: a bounded queue, a thread that generates them together, and what it counts."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import torch

from microtome.dictionaries import Dictionary
from microtome.errors import ConfigError, MicrotomeError, ModelBusy, QueryInvalid, ServerFailed, TokenOutOfRange
from microtome.models import Model
from microtome.steering.compose import EditSet
from microtome.steering.generate import Generation
from microtome.steering.growing import Growing, n_spoken
from microtome.steering.layout import Batch, Prompt
from microtome.steering.plan import Plan
from microtome.steering.sampling import Sampling, Stream, TokenChoice
from microtome.steering.serving.together import Lane, Together

_IDLE_S = 10.0
"""A thread with nothing to do ends after this, and another begins with the next request."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes."""

    waiting: int = 128
    """Rows that may wait (a request for several choices has several)."""
    rows: int = 32
    """Rows that are generated at once."""
    new_tokens: int = 2048
    """Generated tokens of a row at most."""
    prefill_tokens: int = 4096
    """Prompt tokens that are read at once."""
    seconds: float | int = 600.0
    """From the request to its end; what was generated until then is the answer."""

    def __post_init__(self) -> None:
        for name in ("waiting", "rows", "new_tokens", "prefill_tokens", "seconds"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"Limits.{name} lets nothing in.", got=getattr(self, name), wanted="more than 0", do="Correct it.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One row that is asked for."""

    prompt: Prompt
    edits: EditSet = field(default_factory=EditSet)
    sampling: Sampling = field(default_factory=Sampling)
    dictionaries: Mapping[str, Dictionary] | None = None
    """Those that the edits name."""

    def choices(self, n: int) -> tuple["Request", ...]:
        """The same `n` times, each with random numbers of its own: the seeds follow one another."""
        return tuple(replace(self, sampling=replace(self.sampling, seed=self.sampling.seed + i)) for i in range(n))


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What a row has gained, so far as no stop text can take it away again."""

    row: int
    """Its number among the requests of the call."""
    text: str
    choices: tuple[TokenChoice, ...]
    """The tokens whose text has begun to be shown."""


OnPiece = Callable[[Piece], None]
"""Called in the engine's thread: it must not take long, and not raise."""


class Ticket:
    """A row that was asked for: its result, or a way to take it back."""

    def __init__(self, row: int, lane: Lane, *, deadline: float, on_piece: OnPiece | None) -> None:
        self.future: Future[Generation] = Future()
        self.future.set_running_or_notify_cancel()  # from here on only `cancel` below takes it back
        self.lane = lane
        self.is_cancelled = False
        self.deadline = deadline
        self._row = row
        self._on_piece = on_piece
        self._shown_chars = self._shown_choices = self._begun = 0

    def cancel(self) -> None:
        """Nobody wants it any more: it ends before its next token."""
        self.is_cancelled = True

    def result(self, timeout_s: float | None = None) -> Generation:
        """Wait for the row. Raises what `generate` raises."""
        return self.future.result(timeout_s)

    def end_in_time(self, now: float) -> None:
        """End the row if it was taken back or has used up its time."""
        if self.lane.is_over:
            return
        if self.is_cancelled:
            self.lane.growing.end("cancelled")
        elif now > self.deadline and self.lane.growing.choices:
            self.lane.growing.end("time")
        elif now > self.deadline:
            do = "Ask again later, or for shorter answers."
            self.lane.error = ModelBusy("the request's time ended while it waited.", got="no turn yet", wanted="a turn in time", do=do)

    def show(self) -> None:
        """Tell what is new."""
        growing = self.lane.growing
        settled = growing.settled
        is_over, n_all = growing.ending is not None, n_spoken(growing.choices, growing.text, ending=growing.ending)
        first = self._shown_choices
        while self._shown_choices < n_all and (is_over or self._begun + len(growing.choices[self._shown_choices].text) <= settled):
            self._begun += len(growing.choices[self._shown_choices].text)
            self._shown_choices += 1
        text, choices = growing.text[self._shown_chars : settled], tuple(growing.choices[first : self._shown_choices])
        self._shown_chars = settled
        if self._on_piece is not None and (text or choices):
            self._on_piece(Piece(row=self._row, text=text, choices=choices))

    def finish(self) -> Generation | None:
        """Make the result known; None when there is an error instead."""
        lane = self.lane
        if lane.error is None:
            try:
                lane.plan.end([len(lane.growing.choices)])
            except MicrotomeError as error:  # an edit that waited for a token that never came
                lane.error = error if lane.growing.ending not in ("cancelled", "time") else None
        if lane.error is not None:
            self.future.set_exception(lane.error)
            return None
        made = _generation(lane)
        self.future.set_result(made)
        return made


def _generation(lane: Lane) -> Generation:
    report, growing = lane.plan.report(), lane.growing
    assert growing.ending is not None
    return Generation(
        prompt=lane.row,
        choices=tuple(growing.choices),
        text=growing.text,
        ending=growing.ending,
        activations={},
        counts=report.of_row(0),
        n_edited=report.tokens[0],
    )


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What an engine has done and does."""

    waiting: int = 0
    running: int = 0
    rows: int = 0
    """Taken in so far."""
    refused: int = 0
    """Not taken in because the queue was full."""
    failed: int = 0
    endings: Mapping[str, int] = field(default_factory=lambda: {})
    """Rows that ended, by how."""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    edited_tokens: int = 0
    steps: int = 0
    step_rows: int = 0
    """Rows of all steps together: over `steps`, how full they were."""
    step_seconds: float = 0.0


class Engine:
    """Answers requests for one model, many at once, each with its own edits, settings and random numbers.

    A row is what `generate` makes of it alone, up to the rounding of sums of another shape (about 1e-5 of a logit in fp32), so the same tokens
    unless two were as likely as that. A thread takes waiting rows in between two steps and lets each go as it ends.
    """

    def __init__(self, model: Model, *, limits: Limits = Limits()) -> None:  # frozen
        self.model = model
        self.limits = limits
        self._together = Together(model, prefill_tokens=limits.prefill_tokens)
        self._changed = threading.Condition()
        self._queue: deque[Ticket] = deque()
        self._under_way: dict[Lane, Ticket] = {}
        self._seats = 0
        """Rows that wait, or are being made ready to."""
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._metrics = Metrics()
        self._endings: Counter[str] = Counter()

    def submit(self, requests: Sequence[Request], *, on_piece: OnPiece | None = None) -> tuple[Ticket, ...]:
        """Take in rows, all or none. Whatever can be refused is refused here, by what `generate` raises; a full queue raises `ModelBusy`."""
        n = len(requests)
        self._take_seats(n)
        try:
            deadline = time.monotonic() + self.limits.seconds
            tickets = tuple(Ticket(i, self._lane(each), deadline=deadline, on_piece=on_piece) for i, each in enumerate(requests))
        except BaseException:
            with self._changed:
                self._seats -= n
            raise
        with self._changed:
            self._queue.extend(tickets)
            self._count(rows=n, prompt_tokens=sum(len(ticket.lane.row.tokens) for ticket in tickets))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="microtome-engine", daemon=True)
                self._thread.start()
            self._changed.notify()
        return tickets

    def generate(self, requests: Sequence[Request]) -> tuple[Generation, ...]:
        """Submit and wait."""
        return tuple(ticket.result() for ticket in self.submit(requests))

    def metrics(self) -> Metrics:
        """The figures now."""
        with self._changed:
            return replace(self._metrics, waiting=self._seats, running=len(self._under_way), endings=dict(self._endings))

    def close(self) -> None:
        """Take in no more, and end what waits and runs with `ModelBusy`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _take_seats(self, n: int) -> None:
        if n > self.limits.waiting:
            do = "Ask for fewer choices, or in several requests."
            raise QueryInvalid("so many rows never wait at once.", got=n, wanted=f"at most {self.limits.waiting}", do=do)
        with self._changed:
            full = self._seats + n > self.limits.waiting
            if full or self._is_closed:
                self._count(refused=n)
                got = "the server is ending" if self._is_closed else f"{self._seats} rows wait"
                do = "Ask again in a moment, or fewer at a time."
                raise ModelBusy("the model has no room for this request.", got=got, wanted=f"at most {self.limits.waiting} that wait", do=do)
            self._seats += n

    def _lane(self, asked: Request) -> Lane:
        if asked.sampling.max_new_tokens > self.limits.new_tokens:
            got, wanted = asked.sampling.max_new_tokens, f"at most {self.limits.new_tokens}"
            raise QueryInvalid("so many tokens are not generated for one request.", got=got, wanted=wanted, do="Ask for fewer, and go on from there.")
        batch = Batch.of(self.model, [asked.prompt])
        (row,) = batch.rows
        wrong = next((token for token in row.tokens if not 0 <= token < self.model.n_vocab), None)
        if wrong is not None:
            do = "Use ids made by this model's own tokenizer."
            raise TokenOutOfRange("a token id is outside of the model's vocabulary.", got=wrong, wanted=f"0 to {self.model.n_vocab - 1}", do=do)
        growing = Growing.of(self.model, row, sampling=asked.sampling)
        with torch.no_grad():
            plan = Plan(self.model, batch, sets=[asked.edits], dictionaries=asked.dictionaries, n_new=growing.limit)
        return Lane(row=row, plan=plan, growing=growing, stream=Stream(asked.sampling))

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._queue and not self._under_way and not self._is_closed:
                    self._changed.wait(_IDLE_S)
                if self._is_closed or (not self._queue and not self._under_way):
                    self._thread = None
                    break
                fresh = self._next()
            self._advance(fresh)
        if self._is_closed:
            self._end_all(ModelBusy("the server is ending.", got="an end", wanted="an answer", do="Ask again when it is back."))

    def _next(self) -> list[Ticket]:
        """The rows whose turn it is."""
        n = min(len(self._queue), self.limits.rows - len(self._under_way))
        fresh = [self._queue.popleft() for _ in range(n)]
        self._seats -= n
        self._under_way |= {ticket.lane: ticket for ticket in fresh}
        return fresh

    def _advance(self, fresh: Sequence[Ticket]) -> None:
        """New rows read, one token for all, and those that are over let go."""
        began = time.monotonic()
        try:
            for ticket in self._under_way.values():
                ticket.end_in_time(began)
            self._let_go(fresh)
            admitted = [ticket.lane for ticket in fresh if not ticket.lane.is_over]
            if admitted:
                self._together.admit(admitted)
                self._let_go(())
            n_rows = len(self._together.lanes)
            if n_rows:
                self._together.step()
            self._let_go(())
        except Exception as error:  # the outer edge of a thread: who waits must hear of it
            do = "Ask again; the server's terminal shows where it happened. Other requests go on."
            what = "the server made a mistake while it generated."
            failed = ServerFailed(what, got=f"{type(error).__name__}: {error}"[:300], wanted="tokens", do=do)
            failed.__cause__ = error
            logging.getLogger(__name__).exception(what)
            self._fail_running(failed)
            return
        with self._changed:
            self._count(steps=1, step_rows=n_rows, step_seconds=time.monotonic() - began)

    def _let_go(self, fresh: Sequence[Ticket]) -> None:
        """Show what is new, and end what is over; `fresh` are rows that were not yet read."""
        gone = [*self._together.drop(), *(ticket.lane for ticket in fresh if ticket.lane.is_over)]
        for lane in self._together.lanes:
            self._under_way[lane].show()
        for lane in gone:
            with self._changed:
                ticket = self._under_way.pop(lane)
            self._end(ticket)

    def _end(self, ticket: Ticket) -> None:
        if ticket.lane.error is None:
            ticket.show()
        made = ticket.finish()
        with self._changed:
            if made is None:
                self._count(failed=1)
                return
            self._endings[made.ending] += 1
            self._count(generated_tokens=len(made.choices), edited_tokens=made.n_edited)

    def _fail_running(self, error: MicrotomeError) -> None:
        self._together.clear()
        with self._changed:
            running, self._under_way = list(self._under_way.values()), {}
        for ticket in running:
            ticket.lane.error = error
            self._end(ticket)

    def _end_all(self, error: MicrotomeError) -> None:
        with self._changed:
            waiting = list(self._queue)
            self._queue.clear()
            self._seats -= len(waiting)
            self._under_way |= {ticket.lane: ticket for ticket in waiting}
        self._fail_running(error)

    def _count(self, **more: int | float) -> None:
        """Add to the figures; the lock is held."""
        self._metrics = replace(self._metrics, **{name: getattr(self._metrics, name) + value for name, value in more.items()})
