"""`microtome chat`: talk to a model under edits that can be turned on, off and up while you talk."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from microtome.cli.cards import plain
from microtome.cli.edits import EditOptions, Parts, edits_of
from microtome.cli.session import Common, Session

if TYPE_CHECKING:
    from microtome.models import Model
    from microtome.steering import Edit, EditSet, Sampling

_HELP = (
    "/dose 0.5 (0 is off, 1 as given), /dose ocean 0.5 (of one edit), /on, /off (or /off ocean), /edits, "
    "/again (the last question), /new (forget), /end"
)


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
    given), /dose ocean 0.5 how much of one of them, by its name; /off and /on
    switch all or one (/off wiki/17), /edits shows where they stand. /again answers
    the last question anew with the same seed, /new forgets the talk, /end or end of
    input ends it.

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
        self._doses = [1.0] * len(edits.edits)
        self._last = [1.0] * len(edits.edits)
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
        if word in ("/dose", "/on", "/off"):
            self._turn(word, rest)
            return
        if word == "/edits":
            self._say(self._stand())
            return
        if word == "/new":
            self._turns = []
        elif word == "/again" and self._turns:
            self._turns.pop()
            self._reply()
            return
        else:
            self._say(_HELP)
            return
        self._say(f"{self._stand()}, {len(self._turns) // 2} exchanges")

    def _turn(self, word: str, rest: str) -> None:
        """Set the dose of all edits, or of those that are named; `/on` goes back to the last dose that was not 0."""
        name, _, amount = rest.strip().rpartition(" ") if word == "/dose" else (rest.strip(), "", "0")
        try:
            dose = float(amount)
        except ValueError:
            self._say(f'"{amount}" is no number. {_HELP}')
            return
        chosen = [i for i, edit in enumerate(self._edits.edits) if name.strip() in ("", _named(edit))]
        if not chosen or not isfinite(dose):
            self._say(f'no edit is called "{name}". {self._stand()}' if not chosen else f'"{amount}" is no dose. {_HELP}')
            return
        for i in chosen:
            self._doses[i] = self._last[i] if word == "/on" else dose
            self._last[i] = self._doses[i] or self._last[i]
        self._say(self._stand())

    def _stand(self) -> str:
        """Each edit with its dose."""
        return ", ".join(f"{_named(edit)} dose {dose:g}" for edit, dose in zip(self._edits.edits, self._doses, strict=True))

    def _reply(self) -> None:
        from microtome.conversation import Conversation, Turn
        from microtome.steering import TokenChoice, generate

        turns = [*([("system", self._system)] if self._system else []), *self._turns]
        conversation = Conversation(turns=tuple(Turn(role=role, content=content) for role, content in turns))

        def stream(_: int, choice: TokenChoice) -> None:
            self._say("".join(c if c == "\n" else plain(c) for c in choice.text), end="")

        edits = replace(
            self._edits, edits=tuple(replace(edit, dose=edit.dose * dose) for edit, dose in zip(self._edits.edits, self._doses, strict=True))
        )
        (made,) = generate(self._model, conversation, edits=edits, sampling=self._sampling, dictionaries=self._parts.dictionaries, on_token=stream)
        self._say("")
        self.said.append({"user": self._turns[-1][1], "assistant": made.text, "doses": list(self._doses), "tokens_edited": made.n_edited})
        self._turns.append(("assistant", made.text))

    def _prompt(self) -> None:
        if sys.stdin.isatty():
            self._say("> ", end="")

    def _say(self, text: str, *, end: str = "\n") -> None:
        if not self._quiet:
            print(text, end=end, flush=True)


def _named(edit: "Edit") -> str:
    """What an edit acts along, as the command line names it; its kind where that has no name."""
    component = getattr(edit, "component", None) or getattr(edit, "feature", None)
    name = getattr(component, "name", None)
    return str(name) if name else f"{component.dictionary}/{component.index}" if component is not None else edit.kind
