"""Many runs on one pass: each run has a view of the same stream, and views that stand at the same place get the same batch."""

from collections.abc import Mapping
from typing import Any, final

from microtome.training.source import Batches, Served


@final
class SharedBatches:
    """A stream that many runs read. Which batch a view gets follows from the view's own state alone; views in step share the reading of it."""

    def __init__(self, stream: Batches, *, seed: int) -> None:
        """`seed` is the seed of the stream's order, whatever the seeds of the runs."""
        self.seed = seed
        self._stream = stream
        self._begin = stream.state()
        self._before: dict[str, Any] = {}
        self._after: dict[str, Any] = {}
        self._batch: Served | None = None

    def view(self) -> "View":
        """The stream from its beginning, for one run."""
        return View(self, self._begin)

    def read(self, state: dict[str, Any]) -> tuple[Served, dict[str, Any]]:
        """(the batch at a state, the state after it)."""
        if self._batch is None or state != self._before:
            if state != self._stream.state():
                self._stream.restore(state)
            self._batch = next(self._stream)
            self._before, self._after = state, self._stream.state()
        return self._batch, self._after


@final
class View:
    """One run's place in a shared stream."""

    def __init__(self, shared: SharedBatches, state: dict[str, Any]) -> None:
        self.shared = shared
        self._state = state

    @property
    def served(self) -> int:
        """Rows read so far: of several views, the one that is behind is to go first."""
        return int(self._state["served"])

    def __next__(self) -> Served:
        batch, self._state = self.shared.read(self._state)
        return batch

    def state(self) -> dict[str, Any]:
        """The state of the stream itself: a run begun here can go on alone, and the other way round."""
        return dict(self._state)

    def restore(self, state: Mapping[str, Any]) -> None:
        self._state = dict(state)
