"""The model's own replies to many conversations, as the recipes of directions ask for; a stopped run goes on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from microtome.config import fingerprint
from microtome.conversation import Conversation
from microtome.models import Model
from microtome.progress import Progress, Throttled
from microtome.steering.generate import generate
from microtome.steering.layout import row_of
from microtome.steering.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Called with conversations, gives the model's replies, in order: `persona(reader, trait=…, write=Writing(model=model))`."""

    model: Model
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=48))
    batch_size: int = 16
    keep: Path | None = None
    """A JSON lines file that replies are added to and found in again, by model, settings and conversation."""
    progress: Progress | None = None

    def __call__(self, conversations: Sequence[Conversation]) -> list[str]:
        """Batches of prompts of about one length; each on a core of its own, unless the model is tapped: then edits around hold in this thread."""
        keys = [fingerprint([self.model.fingerprint, self.sampling, each.to_messages()]) for each in conversations]
        known = self._kept()
        rows = {key: row_of(self.model, each) for key, each in zip(keys, conversations, strict=True) if key not in known}
        todo = sorted(rows, key=lambda key: len(rows[key].tokens))
        report, total = Throttled(self.progress), len(set(keys))
        done = total - len(todo)

        def write(some: list[str]) -> dict[str, str]:
            made = generate(self.model, [rows[key] for key in some], sampling=self.sampling)
            return {key: each.text for key, each in zip(some, made, strict=True)}

        with self.model.workers() as run_all:
            for fresh in run_all(write, (todo[start : start + self.batch_size] for start in range(0, len(todo), self.batch_size))):
                known |= fresh
                self._add(fresh)
                done += len(fresh)
                report("replies", done, total, unit="replies")
        return [known[key] for key in keys]

    def _kept(self) -> dict[str, str]:
        if self.keep is None or not self.keep.is_file():
            return {}
        found: dict[str, str] = {}
        for line in self.keep.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a run that was killed while it wrote
                continue
            found[str(row["key"])] = str(row["reply"])
        return found

    def _add(self, fresh: dict[str, str]) -> None:
        if self.keep is not None:
            self.keep.parent.mkdir(parents=True, exist_ok=True)
            with self.keep.open("a", encoding="utf-8") as file:
                file.writelines("\n" * (i == 0) + json.dumps({"key": key, "reply": text}) + "\n" for i, (key, text) in enumerate(fresh.items()))
