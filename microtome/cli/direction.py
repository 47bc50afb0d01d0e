"""`microtome direction …`: make a direction by a recipe, measure it, and keep it in the workspace."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from microtome.cli.direction_trained import slots, trained
from microtome.cli.direction_use import calibrate, drift
from microtome.cli.made import Place, finish, reader_of
from microtome.cli.passages import passages_of
from microtome.cli.session import Common, Session
from microtome.errors import CommandInvalid, nearest

if TYPE_CHECKING:
    from microtome.directions import Reader


def direction_app() -> App:
    """The verb with its recipes."""
    about = "Make a direction by a recipe: a vector with a meaning, measured beside its controls and kept in the workspace.\n\n"
    about += "Examples:\n\n    microtome direction concept demo --word ocean\n\n    microtome direction persona demo --trait poetic"
    app = App(name="direction", help=about, help_format="plaintext")
    for order, verb in enumerate((contrast, probe, concept, refusal, persona, axis, emotion, trained, slots, calibrate, drift)):
        app.command(verb, sort_key=order)
    return app


def contrast(
    model: str,
    *,
    positive: Path,
    negative: Path,
    span: str = "last",
    method: Literal["mean", "pca"] = "mean",
    chat: Annotated[bool, Parameter(negative=())] = False,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """The direction from one set of passages to another: difference of means, or first component of the pairs.

    Examples:

        microtome direction contrast demo --positive glad.txt --negative sad.txt --span all --name glad

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    positive
        Passages that have it: one a line, or .jsonl with "text" or "messages".
    negative
        Passages that have it not: what they are is what the direction is measured against.
    span
        Tokens read: last, last-2, all, reply, template, from:50, text:Alice, since:Trial.
    method
        mean: of the length measured; pca: of the pairs line by line, length 1.
    chat
        Read each line as a user's turn.
    """
    from microtome.directions.recipes import contrast as recipe

    with Session(common) as session:
        high, low = (passages_of(file, chat=chat) for file in (positive, negative))
        reader = reader_of(session, model, place=place, span=span)
        with session.step("direction"):
            made = recipe(reader, positive=high, negative=low, name=place.name or positive.stem, method=method)
        finish(session, reader.model, {made.direction.name: made})


def probe(
    model: str,
    *,
    positive: Path,
    negative: Path,
    span: str = "last",
    kind: Literal["l2", "l1", "mean"] = "l2",
    chat: Annotated[bool, Parameter(negative=())] = False,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """A linear probe between two sets of passages, with its AUC beside shuffled classes and a bag of words.

    Examples:

        microtome direction probe demo --positive polite.txt --negative rude.txt --chat

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    positive
        Passages of the class: one a line, or .jsonl with "text" or "messages".
    negative
        Passages of the other class.
    span
        Tokens read: last, last-2, all, reply, template, from:50, text:Alice, since:Trial.
    kind
        Logistic regression with an l2 or l1 penalty, or the difference of means.
    chat
        Read each line as a user's turn.
    """
    from microtome.directions.recipes import probe as recipe

    with Session(common) as session:
        high, low = (passages_of(file, chat=chat) for file in (positive, negative))
        reader = reader_of(session, model, place=place, span=span)
        with session.step("direction"):
            made = recipe(reader, positive=high, negative=low, name=place.name or positive.stem, kind=kind)
        finish(session, reader.model, {made.direction.name: made})


def concept(model: str, *, word: str, place: Place = Place(), common: Common = Common()) -> None:  # noqa: B008  frozen
    """What "Tell me about WORD." leaves before the reply, minus the same for a hundred unrelated words.

    Examples:

        microtome direction concept demo --word ocean

        microtome direction concept demo --word music --site L15.resid_post --name music15

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    word
        The concept.
    """
    from microtome.directions.recipes import concept as recipe

    with Session(common) as session:
        reader = reader_of(session, model, place=place, span="last")
        with session.step("direction"):
            made = recipe(reader, word=word)
        finish(session, reader.model, {place.name or word: made})


def refusal(
    model: str,
    *,
    declined: Path | None = None,
    harmless: Path | None = None,
    layers: Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative=())] = (),
    max_kl: float = 0.1,
    min_induce: float = 0.0,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """The direction along which a model declines: the one that bypasses most when it is ablated, within limits.

    The built-in requests are mild (private data, insults, cheating at homework).
    A small model may decline none of them, and is then told so.

    Examples:

        microtome direction refusal org/model --declined mine.txt --harmless fine.txt

        microtome direction refusal demo --layers 4 8 12 --min-induce -3 --max-kl 1

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    declined
        Requests that the model declines, one a line; built-in mild ones unless given.
    harmless
        Requests that it answers, one a line; built-in ones unless given.
    layers
        Layers tried; all below 0.8 of the depth unless given.
    max_kl
        Largest mean KL on harmless requests with the direction ablated, in nats.
    min_induce
        Smallest mean refusal score of harmless requests with the direction added, as log odds.
    """
    from microtome.directions import asked
    from microtome.directions.recipes import DECLINED, HARMLESS, Limits
    from microtome.directions.recipes import refusal as recipe

    with Session(common) as session:
        high = passages_of(declined, chat=True) if declined else [asked(text) for text in DECLINED]
        low = passages_of(harmless, chat=True) if harmless else [asked(text) for text in HARMLESS]
        reader = reader_of(session, model, place=place, span="last")
        with session.step("direction"):
            limits = Limits(kl=max_kl, induce=min_induce)
            made = recipe(reader, declined=high, harmless=low, layers=layers or None, limits=limits)
        finish(session, reader.model, {place.name or "refusal": made}, more={"candidates": list(made.candidates), "chosen": made.chosen})


def persona(
    model: str,
    *,
    trait: str,
    questions: int | None = None,
    max_new_tokens: int = 48,
    span: Literal["reply", "last", "all"] = "reply",
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """How the model's replies differ when it is told to have a trait and when it is told the opposite.

    Traits that come with it: formal, cheerful, poetic, wordy; or a JSON file with
    name, positive and negative (system prompts in pairs) and questions.

    Examples:

        microtome direction persona demo --trait poetic

        microtome direction persona demo --trait mine.json --questions 4

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    trait
        Name of a built-in trait, or a JSON file.
    questions
        Only the first so many questions.
    max_new_tokens
        Length of the replies.
    span
        Tokens read: the reply, the token before it, or all.
    """
    from microtome.directions.recipes import persona as recipe

    with Session(common) as session:
        chosen = _trait(trait, questions)
        reader = reader_of(session, model, place=place, span=span)
        with session.step("direction"):
            made = recipe(reader, trait=chosen, write=_writing(session, reader, max_new_tokens))
        examples = [{"positive": high.text, "negative": low.text} for high, low in made.kept[:4]]
        finish(
            session, reader.model, {place.name or chosen.name: made}, more={"pairs": len(made.kept), "dropped": made.dropped, "examples": examples}
        )


def axis(
    model: str,
    *,
    roles: int | None = None,
    prompts: int = 1,
    questions: int = 4,
    max_new_tokens: int = 32,
    place: Place = Place(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """The assistant axis: the default assistant's replies minus the mean of thirty roles', calibrated for caps.

    Replies are kept as they come: the same command goes on where it was stopped.

    Examples:

        microtome direction axis demo

        microtome direction axis demo --roles 6 --questions 2

        microtome direction axis demo --prompts 5 --questions 10 --max-new-tokens 24

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    roles
        Only the first so many of the thirty roles.
    prompts
        System prompts of each role, up to 5; with 5 and 10 questions each role has fifty replies.
    questions
        How many questions each role answers.
    max_new_tokens
        Length of the replies.
    """
    from microtome.directions.recipes import DEFAULT_PROMPTS, QUESTIONS, ROLES, assistant_axis

    with Session(common) as session:
        reader = reader_of(session, model, place=place, span="reply")
        some = {role: told[:prompts] for role, told in list(ROLES.items())[:roles]}
        with session.step("direction"):
            write = _writing(session, reader, max_new_tokens)
            made = assistant_axis(reader, roles=some, defaults=DEFAULT_PROMPTS, questions=QUESTIONS[:questions], write=write)
        along = sorted(zip(made.coordinates, made.roles, strict=True))
        listed = [{"role": role, "coordinate": coordinate} for coordinate, role in along]
        more = {"roles": listed, "default_coordinate": made.default_coordinate, "failures": made.failures}
        finish(session, reader.model, {place.name or "assistant-axis": made}, more=more)


def emotion(model: str, *, span: str = "from:5", share: float = 0.5, place: Place = Place(), common: Common = Common()) -> None:  # noqa: B008  frozen
    """A direction for each of ten emotions, freed of what neutral text varies in.

    Makes directions/emotion-joy, emotion-calm … (NAME-joy with --name).

    Examples:

        microtome direction emotion demo

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    span
        Tokens read: all, from:5 …
    share
        Share of the variance of neutral tokens that is projected out; 0: nothing.
    """
    from microtome.directions.recipes import emotions

    with Session(common) as session:
        reader = reader_of(session, model, place=place, span=span)
        with session.step("direction"):
            found = emotions(reader, share=share)
        made = {f"{place.name or 'emotion'}-{name}": each for name, each in found.made.items()}
        more: dict[str, Any] = {"removed_components": len(found.removed)}
        finish(session, reader.model, made, more=more, results=found.results, notes=found.notes)


def _writing(session: Session, reader: "Reader", max_new_tokens: int) -> Any:
    from microtome.steering import Sampling, Writing

    keep = session.workspace.path / "replies" / f"{reader.model.fingerprint}.jsonl"
    sampling = Sampling(max_new_tokens=max_new_tokens)
    return Writing(model=reader.model, sampling=sampling, batch_size=4 * reader.batch_size, keep=keep, progress=session.progress)


def _trait(text: str, questions: int | None) -> Any:
    import json
    from dataclasses import replace

    from microtome.config import from_dict
    from microtome.directions.recipes import TRAITS, Trait

    file = Path(text)
    if text in TRAITS:
        chosen = TRAITS[text]
    elif file.is_file():
        try:
            values = json.loads(file.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise CommandInvalid(f"{file} is not JSON.", got=str(error), wanted="name, positive, negative, questions", do="Correct it.") from error
        chosen = from_dict(Trait, values)
    else:
        raise CommandInvalid(f'there is no trait "{text}".', got=text, wanted=f"{', '.join(TRAITS)} or a JSON file", do=nearest(text, TRAITS))
    return chosen if questions is None else replace(chosen, questions=chosen.questions[:questions])
