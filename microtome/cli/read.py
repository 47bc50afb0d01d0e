"""What a graph is traced of on the command line: a text, a user's turn, or a conversation in a file."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from microtome.cli.session import Session
from microtome.errors import CommandInvalid, CorpusInvalid, CorpusNotFound

if TYPE_CHECKING:
    from microtome.circuits import Graph, TurnFeature
    from microtome.conversation import Conversation
    from microtome.dictionaries import SAE
    from microtome.models import Model, TurnSpan

TURN_FEATURE = re.compile(r"T(\d{1,4})\.f(\d{1,9})")
"""A feature of a turn: the turn, counted from 0, and its number."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """A prompt as the model reads it, with the turns of a conversation."""

    prompt: "str | tuple[int, ...]"
    turns: "tuple[TurnSpan, ...]" = ()
    dictionary: "SAE | None" = None
    """Of turns."""

    @classmethod
    def of(cls, session: Session, model: "Model", prompt: str, *, chat: bool, turns: bool, turn_dict: str | None) -> "Read":
        from microtome.dictionaries import SAE, load_any
        from microtome.directions import asked
        from microtome.models import render

        sae = None if turn_dict is None else load_any(session.find("dictionary", turn_dict))
        if turn_dict is not None and (not isinstance(sae, SAE) or not turns):
            do = "Give an SAE of turns, and --turns with a conversation."
            raise CommandInvalid("--turn-dict cannot be used so.", got=turn_dict, wanted="an SAE and --turns", do=do)
        if not turns:
            return cls(prompt=render(model, asked(prompt), add_generation_prompt=True).tokens if chat else prompt)
        talk = _conversation(Path(prompt))
        rendered = render(model, talk, add_generation_prompt=talk.turns[-1].role == "user")
        return cls(prompt=rendered.tokens, turns=rendered.turns, dictionary=sae if isinstance(sae, SAE) else None)

    def turn_feature(self, text: str) -> "TurnFeature":
        """`T1.f17`."""
        from microtome.circuits import TurnFeature

        found = TURN_FEATURE.fullmatch(text)
        assert found is not None
        assert self.dictionary is not None
        if int(found[1]) >= len(self.turns):
            raise CommandInvalid(
                f"there is no turn {found[1]}.", got=text, wanted=f"T0 to T{len(self.turns) - 1}", do="Turns are counted from 0, the system's too."
            )
        turn = self.turns[int(found[1])]
        return TurnFeature(dictionary=self.dictionary, feature=int(found[2]), start=turn.content_start, stop=turn.content_end)

    def shown(self, graph: "Graph") -> "Graph":
        """The graph with turns as columns, if there are turns."""
        from microtome.circuits import by_columns, turn_columns

        by_tokens = self.turns and "columns" not in graph.config
        return by_columns(graph, turn_columns(self.turns, len(graph.tokens))) if by_tokens else graph


def _conversation(file: Path) -> "Conversation":
    from microtome.conversation import from_messages

    if not file.is_file():
        raise CorpusNotFound(f"there is no file {file}.", got=file, wanted="a JSON file with a conversation", do="Check the path.")
    try:
        return from_messages(json.loads(file.read_bytes()), where=str(file))
    except ValueError as error:
        wanted = '[{"role": "user", "content": "…"}, …]'
        raise CorpusInvalid(f"{file} is not JSON.", got=str(error), wanted=wanted, do="Correct the file.") from error
