"""Persona vectors ("Persona vectors", 2507.21509): how replies under instructions to have a trait differ from those under the opposite ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from microtome.conversation import Conversation, Turn
from microtome.directions.direction import Direction
from microtome.directions.reading import Reader, asked
from microtome.directions.recipes.contrast import mean_difference, split_half
from microtome.directions.recipes.recipe import Made, Writer, made_by, mean_norm, need, recipe
from microtome.errors import NotEnoughTokens
from microtome.stats import Result


@dataclass(frozen=True, kw_only=True)
class Trait:
    """A trait, by instructions to have it and to have the opposite, and questions that let it show."""

    name: str
    positive: tuple[str, ...]
    """System prompts that ask for the trait."""
    negative: tuple[str, ...]
    """System prompts that ask for the opposite, one for each of `positive`."""
    questions: tuple[str, ...]

    def __post_init__(self) -> None:
        need(self.positive, at_least=1, what=f"instructions for {self.name}")
        need(self.questions, at_least=1, what=f"questions for {self.name}")
        if len(self.positive) != len(self.negative):
            got = f"{len(self.positive)} and {len(self.negative)}"
            raise NotEnoughTokens(f"the instructions for {self.name} are not paired.", got=got, wanted="as many of both", do="Pair them.")


class Judged(NamedTuple):
    """What a judge says of a reply, both from 0 to 100."""

    trait: float
    coherence: float


Judge: TypeAlias = Callable[[Conversation, str], Judged]


class Reply(NamedTuple):
    conversation: Conversation
    """What was asked."""
    text: str

    @property
    def whole(self) -> Conversation:
        """With the reply as its last turn."""
        return Conversation(turns=(*self.conversation.turns, Turn(role="assistant", content=self.text)))


@dataclass(frozen=True, kw_only=True, eq=False)
class PersonaMade(Made):
    """The vector with the pairs of replies it was made from."""

    kept: tuple[tuple[Reply, Reply], ...]
    """Positive and negative."""
    dropped: int
    """Pairs that the judge did not pass, or with an empty reply."""


@recipe("persona")
def persona(reader: Reader, *, trait: Trait, write: Writer, judge: Judge | None = None) -> PersonaMade:
    """v = mean(replies under positive instructions) − mean(replies under negative ones), over the reader's span: `reply` (the paper's choice),
    `last` before the reply, or `all`.

    `write` lets the model answer every question under every instruction. With a `judge` a pair is kept if trait(positive) ≥ 50 >
    trait(negative) and both are coherent (≥ 50); without, all pairs are kept and the notes say so. Replies are read behind the instructions
    that made them.
    """
    ask = [asked(question, system=system) for side in (trait.positive, trait.negative) for system in side for question in trait.questions]
    texts = list(write(ask))
    replies = [Reply(conversation, text) for conversation, text in zip(ask, texts, strict=True)]
    half = len(replies) // 2
    pairs = [(high, low) for high, low in zip(replies[:half], replies[half:], strict=True) if _passes(high, low, judge)]
    if not pairs:
        do = "Give questions and instructions that this model follows."
        raise NotEnoughTokens(f"no pair of replies shows {trait.name}.", got=f"0 of {half} pairs", wanted="at least one", do=do)
    waits = reader.span.kind == "last"
    rows = reader.rows([reply.conversation if waits else reply.whole for side in (0, 1) for reply in (pair[side] for pair in pairs)])
    high, low = rows[: len(pairs)], rows[len(pairs) :]
    direction = Direction(
        name=trait.name,
        site=reader.site,
        vector=mean_difference(high, low),
        sign=f"towards {trait.name}",
        reference="replies under the opposite instructions",
        model=reader.model.fingerprint,
        provenance=made_by(reader, "persona", trait=trait.name, pairs=len(pairs), dropped=half - len(pairs), judged=judge is not None),
    )
    results = [Result(name="length", value=direction.norm / mean_norm(rows), n=len(rows), unit="of mean length")]
    if len(pairs) >= 4:
        results.append(split_half(high, low))
    return PersonaMade(
        direction=direction,
        results=tuple(results),
        notes=_notes(judge),
        kept=tuple(pairs),
        dropped=half - len(pairs),
    )


def _passes(high: Reply, low: Reply, judge: Judge | None) -> bool:
    if not high.text.strip() or not low.text.strip():
        return False
    if judge is None:
        return True
    first, second = judge(*high), judge(*low)
    return first.trait >= 50 > second.trait and min(first.coherence, second.coherence) >= 50


def _notes(judge: Judge | None) -> tuple[str, ...]:
    shared = "Replies are read behind their instructions, so the vector holds the instructions too, not only what they did."
    unjudged = "No judge looked at the replies: whether they show the trait is not known."
    return (shared,) if judge is not None else (shared, unjudged)
