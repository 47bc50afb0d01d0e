"""`microtome chat`: talk to a model under edits that can be turned on, off and up while you talk."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from microtome.cli.cards import plain
from microtome.cli.edits import EditOptions, Parts, edits_of
from microtome.cli.session import Common, Session

if TYPE_CHECKING:
    from microtome.models import Model
    from microtome.steering import EditSet, Sampling

_HELP = "/dose 0.5 (0 is off, 1 as given), /on, /off, /again (the last question), /new (forget), /end"


def chat(
    model: str,
    *,
    edit: EditOptions = EditOptions(),  # noqa: B008  frozen
    system: str = "",
    max_new_tokens: int = 128,
    temperature: float = 0.7,
    seed: int = 0,
    device: str = "auto",
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Talk to a model under edits, and turn them up and down while you talk.

    A line is a turn. /dose 0.5 sets how much of the edits is made (0 off, 1 as
    given), /off and /on switch, /again answers the last question anew with the
    same seed, /new forgets the talk, /end or end of input ends it.

    Examples:

        microtome chat demo --add ocean=2

        microtome chat demo --floor assistant-axis=p25 --system "You are a pirate."

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    system
        A system turn before the talk.
    max_new_tokens
        Length of a reply.
    temperature
        0: always the likeliest token.
    seed
        Of the random numbers, the same for every reply.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.models import load
    from microtome.steering import Sampling

    with Session(common) as session:
        sampling, parts = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed), Parts(session.workspace)
        with session.step("load model"):
            loaded = load(model, device=device, selfcheck=False, progress=session.progress)
        edits = edits_of(edit, parts, loaded)
        talk = _Talk(loaded, edits, parts=parts, sampling=sampling, system=system, quiet=session.json)
        session.note(f"{loaded.ref}{f', a {loaded.quantised} (quantised) model' if loaded.quantised else ''}. {_HELP}")
        talk.run(sys.stdin)
        if session.json:
            session.result({"model": loaded.ref, "edits": edits, "turns": talk.said})


class _Talk:
    """The turns so far, and the dose."""

    def __init__(self, model: "Model", edits: "EditSet", *, parts: Parts, sampling: "Sampling", system: str, quiet: bool) -> None:
        self._model, self._edits, self._parts, self._sampling = model, edits, parts, sampling
        self._system, self._quiet = system, quiet
        self._dose, self._last = 1.0, 1.0
        self._turns: list[tuple[str, str]] = []
        self.said: list[dict[str, object]] = []
        """Every turn with the dose it was made under, also those that were forgotten."""

    def run(self, lines: Iterable[str]) -> None:
        """Until the end."""
        self._prompt()
        for raw_line in lines:
            line = raw_line.strip()
            if line == "/end":
                return
            if line.startswith("/"):
                self._obey(line)
            elif line:
                self._turns.append(("user", line))
                self._reply()
            self._prompt()

    def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "/dose":
            try:
                self._dose = float(rest)
            except ValueError:
                self._say(f'"{rest}" is no number. {_HELP}')
                return
            self._last = self._dose or self._last
        elif word == "/off":
            self._dose = 0.0
        elif word == "/on":
            self._dose = self._last
        elif word == "/new":
            self._turns = []
        elif word == "/again" and self._turns:
            self._turns.pop()
            self._reply()
            return
        else:
            self._say(_HELP)
            return
        self._say(f"dose {self._dose:g}, {len(self._turns) // 2} exchanges")

    def _reply(self) -> None:
        from microtome.conversation import Conversation, Turn
        from microtome.steering import TokenChoice, generate

        turns = [*([("system", self._system)] if self._system else []), *self._turns]
        conversation = Conversation(turns=tuple(Turn(role=role, content=content) for role, content in turns))

        def stream(_: int, choice: TokenChoice) -> None:
            self._say("".join(c if c == "\n" else plain(c) for c in choice.text), end="")

        edits = self._edits.at(self._dose)
        (made,) = generate(self._model, conversation, edits=edits, sampling=self._sampling, dictionaries=self._parts.dictionaries, on_token=stream)
        self._say("")
        self.said.append({"user": self._turns[-1][1], "assistant": made.text, "dose": self._dose, "tokens_edited": made.n_edited})
        self._turns.append(("assistant", made.text))

    def _prompt(self) -> None:
        if sys.stdin.isatty():
            self._say("> ", end="")

    def _say(self, text: str, *, end: str = "\n") -> None:
        if not self._quiet:
            print(text, end=end, flush=True)
