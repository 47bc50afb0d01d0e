"""`microtome direction trained` and `slots`: the recipes that train what they make."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from microtome.cli.made import Place, finish, reader_of
from microtome.cli.passages import preferences_of, stories_of
from microtome.cli.session import Common, Session


def trained(
    model: str,
    *,
    preferences: Path,
    length: float = 0.3,
    steps: int = 30,
    chat: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """A steering vector trained by gradient, so that wanted continuations gain likelihood against others.

    The file has a line of JSON for each preference: {"prompt": "The old man walked to",
    "target": " the harbour to see the boats.", "against": " the station to meet a train."}.
    A quarter of them is held out; the gain there stands beside a random vector, the
    difference of means and a vector trained on turned preferences, of equal length.

    Examples:

        microtome direction trained demo --preferences sea.jsonl --name sea

        microtome steer demo "My favourite place is" --add sea=1

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    preferences
        A .jsonl with "prompt" (or "messages"), "target" and "against".
    length
        Largest length of the vector, as a share of the tokens' mean length at the site.
    steps
        Steps of training.
    chat
        Each prompt is a user's turn, the continuations are replies.
    seed
        Of the random control and of the turned preferences.
    """
    from microtome.directions.recipes import trained as recipe

    with Session(common) as session:
        wanted = preferences_of(preferences, chat=chat)
        reader = reader_of(session, model, place=place, span="all")
        name = place.name or preferences.stem
        with session.step("direction"):
            made = recipe(reader, preferences=wanted, name=name, length=length, steps=steps, seed=seed)
        finish(session, reader.model, {name: made}, more={"losses": list(made.losses)})


def slots(
    model: str,
    *,
    stories: Path | None = None,
    count: int = 120,
    slots: int = 2,
    rank: int = 8,
    seed: int = 0,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Whom a text is about, now and before: probes of several slots of which nobody says which reads whom.

    Which lag a slot settled on is looked up on held-out stories, beside one lag more,
    the next entity (which nothing can know) and a probe trained on other rows' entities.
    Makes directions/slots-current-Anna, slots-prior-Anna … (NAME-current-Anna with --name).

    Examples:

        microtome direction slots demo

        microtome direction slots demo --stories mine.jsonl --slots 3

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    stories
        A .jsonl with "sentences" and "entities", one a sentence; our own stories unless given.
    count
        How many of our own stories.
    slots
        Entities that are read: this sentence's, and those of the ones before it.
    rank
        Dimensions that a slot reads.
    seed
        Of stories, split and training.
    """
    from microtome.directions.recipes import slots as recipe
    from microtome.directions.recipes import stories as our_own

    with Session(common) as session:
        told = stories_of(stories) if stories else our_own(n=count, seed=seed)
        reader = reader_of(session, model, place=place, span="last")
        with session.step("direction"):
            found = recipe(reader, told=told, n_slots=slots, rank=rank, seed=seed)
        made = {f"{place.name or 'slots'}-{name}": each for name, each in found.made.items()}
        right = [{"slot": name, **accuracy} for name, accuracy in zip(found.names, found.right, strict=True)]
        finish(session, reader.model, made, more={"right": right}, results=found.results, notes=found.notes)
