"""`microtome direction calibrate` and `drift`: where texts lie along a direction that is kept."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from microtome.cli.cards import plain, titled
from microtome.cli.made import Place, finish, reader_of
from microtome.cli.passages import passages_of
from microtome.cli.session import Common, Session
from microtome.errors import CorpusInvalid

if TYPE_CHECKING:
    from microtome.directions import Direction, Reader


def calibrate(
    model: str,
    direction: str,
    *,
    passages: Path,
    chat: Annotated[bool, Parameter(negative=())] = False,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Where the tokens of texts lie along a direction, so that strengths and caps can be given in percentiles.

    Makes directions/NAME-calibrated (or --name), the same vector with the percentiles.

    Examples:

        microtome direction calibrate demo ocean --passages texts.txt

        microtome steer demo "My favourite place is" --floor ocean-calibrated=p75

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    direction
        Name of a direction of the workspace.
    passages
        Texts: one a line, or .jsonl with "text" or "messages". All tokens but the first of each are read.
    chat
        Read each line as a user's turn.
    """
    from microtome.directions import Measured, load_direction, load_measured
    from microtome.directions.recipes import Made
    from microtome.stats import Result

    with Session(common) as session:
        folder, texts = session.workspace.find("direction", direction), passages_of(passages, chat=chat)
        kept, before = load_direction(folder), load_measured(folder)
        reader = _reader_along(session, model, kept, place=place, span="all")
        with session.step("calibrate"):
            made = kept.calibrated(kept.project(reader.tokens(texts)), source=passages.name)
        calibration = made.calibration
        assert calibration is not None
        results = tuple(Result(name=f"p{p}", value=calibration.at(p), n=calibration.n, unit="along the unit vector") for p in (1, 25, 50, 75, 99))
        name = place.name or f"{direction}-calibrated"
        known = before or Measured()
        given = {name: Made(direction=made, results=known.results, notes=known.notes)}
        finish(session, reader.model, given, results=known.together, more=known.more, shown=results)


def drift(
    model: str,
    direction: str,
    *,
    conversations: Path,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Where each reply of conversations lies along a direction, as the assistant axis is watched turn by turn.

    Examples:

        microtome direction drift demo assistant-axis --conversations talks.jsonl

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    direction
        Name of a direction of the workspace.
    conversations
        A .jsonl with "messages".
    """
    from microtome.conversation import Conversation
    from microtome.directions import load_direction
    from microtome.directions.recipes import drift as along

    with Session(common) as session:
        kept, talks = load_direction(session.workspace.find("direction", direction)), passages_of(conversations, chat=False)
        reader = _reader_along(session, model, kept, place=place, span="reply")
        table = titled(f"coordinate of each reply along {kept.name}{f', {kept.sign}' if kept.sign else ''}")
        for heading in ("talk", "turn", "coordinate"):
            table.add_column(heading, justify="right")
        rows: list[dict[str, object]] = []
        with session.step("read"):
            for number, talk in enumerate(talks):
                if not isinstance(talk, Conversation):
                    raise CorpusInvalid(f"line {number + 1} is no conversation.", got="a text", wanted='{"messages": […]}', do="Give conversations.")
                for turn in along(reader, kept, conversation=talk):
                    rows.append({"conversation": number, "turn": turn.turn, "coordinate": turn.coordinate})
                    table.add_row(*(Text(plain(cell)) for cell in (str(number), str(turn.turn), f"{turn.coordinate:.3f}")))
        session.result({"direction": kept.name, "fingerprint": kept.fingerprint, "turns": rows}, table)


def _reader_along(session: Session, ref: str, kept: "Direction", *, place: Place, span: str) -> "Reader":  # whose, of what, along what
    """A reader at the direction's own site unless another is named; the direction fits it."""
    reader = reader_of(session, ref, place=replace(place, site=place.site or str(kept.site)), span=span)
    kept.fits(reader.model, site=reader.site)
    return reader
