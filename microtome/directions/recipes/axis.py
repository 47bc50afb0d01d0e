"""The Assistant axis: from role-play towards the default assistant ("The Assistant Axis", 2601.10387), and where a conversation moves along it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from microtome.conversation import Conversation
from microtome.directions.direction import Direction
from microtome.directions.reading import Reader, asked
from microtome.directions.recipes.contrast import Components, components, mean_difference
from microtome.directions.recipes.persona import Reply
from microtome.directions.recipes.recipe import Made, Writer, cosine, made_by, need, recipe
from microtome.errors import NotEnoughTokens
from microtome.shapes import Float, Tensor
from microtome.stats import Result

RoleJudge: TypeAlias = Callable[[str, Conversation, str], int]
"""Of role, question and reply: 0 refuses, 1 helps but declines the role, 2 shows some of it, 3 is fully in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisMade(Made):
    """The axis with the role vectors behind it."""

    roles: tuple[str, ...]
    vectors: Float[Tensor, "roles width"]
    """A role's mean over its replies."""
    default: Float[Tensor, "width"]
    principal: Components
    """Of the role vectors, centred; the first is turned to the default's side."""
    coordinates: tuple[float, ...]
    """Each role's along the axis, in the model's units; the default's is `default_coordinate`."""
    default_coordinate: float
    failures: Mapping[str, int]
    """For each role, replies that were empty or that the judge found out of role."""


@recipe("axis")
def assistant_axis(
    reader: Reader,
    *,
    roles: Mapping[str, Sequence[str]],
    defaults: Sequence[str],
    questions: Sequence[str],
    write: Writer,
    judge: RoleJudge | None = None,
) -> AxisMade:
    """axis = mean(default replies) − mean over roles of (mean of a role's replies). It points to the assistant.

    `roles` gives the system prompts of each role, `defaults` the neutral ones (an empty one means none). Every prompt meets every question.
    With a `judge` a role's replies count only when fully in role (3); default replies are never filtered. The axis is calibrated on the
    single tokens of all replies read, roles and default, so `Cap(strength=percentile(25), side="floor")` is the paper's cap. The order of
    principal components differs between models, so the contrast and not the first of them is the axis; their cosine is reported.
    """
    need(list(roles), at_least=2, what="roles")
    need(defaults, at_least=1, what="default prompts")
    need(questions, at_least=1, what="questions")
    prompts = [(role, system) for role, systems in roles.items() for system in systems] + [("", system) for system in defaults]
    ask = [(role, asked(question, system=system)) for role, system in prompts for question in questions]
    texts = list(write([conversation for _, conversation in ask]))
    replies: dict[str, list[Reply]] = {role: [] for role in (*roles, "")}
    failures = dict.fromkeys(roles, 0)
    for (role, conversation), text in zip(ask, texts, strict=True):
        fits = bool(text.strip()) and (judge is None or not role or judge(role, conversation, text) == 3)
        if fits:
            replies[role].append(Reply(conversation, text))
        elif role:
            failures[role] += 1
    names = tuple(role for role in roles if replies[role])
    if len(names) < 2 or not replies[""]:
        got = f"replies for {len(names)} roles and {len(replies[''])} of the default"
        raise NotEnoughTokens("too few roles were played.", got=got, wanted="two roles and a default", do="Give roles that this model can play.")
    spans = reader.spans([reply.whole for role in (*names, "") for reply in replies[role]])
    found = iter(spans)
    means = {role: torch.stack([next(found).double().mean(0) for _ in replies[role]]).mean(0).float() for role in (*names, "")}
    vectors = torch.stack([means[role] for role in names])
    vector = mean_difference(means[""][None], vectors)
    direction = Direction(
        name="assistant axis",
        site=reader.site,
        vector=vector,
        sign="towards the assistant",
        reference=f"the mean of {len(names)} roles",
        model=reader.model.fingerprint,
        provenance=made_by(reader, "axis", roles=list(names), questions=len(questions), defaults=list(defaults), judged=judge is not None),
    )
    projected = torch.cat([direction.project(span) for span in spans])
    direction = direction.calibrated(projected, source=f"tokens of replies of {len(names)} roles and the default")
    principal = components(vectors)
    first = principal.vectors[0]
    principal = Components(torch.cat([(first if cosine(first, vector) >= 0 else -first)[None], principal.vectors[1:]]), principal.shares)
    return AxisMade(
        direction=direction,
        results=_results(direction, principal, means=means, names=names),
        notes=_notes(judge, names),
        roles=names,
        vectors=vectors,
        default=means[""],
        principal=principal,
        coordinates=tuple(direction.project(vectors).tolist()),
        default_coordinate=float(direction.project(means[""])),
        failures=failures,
    )


@dataclass(frozen=True, kw_only=True)
class TurnCoordinate:
    """Where one turn of the assistant lies."""

    turn: int
    coordinate: float
    """Mean over the turn's own words of ⟨x, v⟩/‖v‖, in the model's units."""


def drift(reader: Reader, direction: Direction, *, conversation: Conversation) -> tuple[TurnCoordinate, ...]:
    """The coordinate of every reply of a conversation, each read with all that came before it. Turns without words are left out."""
    turns = [i for i, turn in enumerate(conversation.turns) if turn.role == "assistant" and turn.content.strip()]
    need(turns, at_least=1, what="assistant turns")
    until = [Conversation(turns=conversation.turns[: turn + 1]) for turn in turns]
    values = direction.project(reader.over("reply").rows(until)).tolist()
    return tuple(TurnCoordinate(turn=turn, coordinate=value) for turn, value in zip(turns, values, strict=True))


def _results(direction: Direction, principal: Components, *, means: Mapping[str, Tensor], names: Sequence[str]) -> tuple[Result, ...]:
    along = {role: float(direction.project(mean)) for role, mean in means.items()}
    below = sum(along[role] < along[""] for role in names) / len(names)
    return (
        Result(name="cosine_with_first_component", value=cosine(direction.vector, principal.vectors[0]), n=len(names)),
        Result(name="share_of_first_component", value=principal.shares[0], n=len(names), definition="share of the variance of the role vectors"),
        Result(name="roles_below_default", value=below, n=len(names), definition="share of roles whose coordinate is below the default's"),
    )


def _notes(judge: RoleJudge | None, names: Sequence[str]) -> tuple[str, ...]:
    notes = [] if judge is not None else ["No judge looked at the replies: whether the model played the roles is not known."]
    if len(names) < 30:
        notes.append(f"{len(names)} roles are few: the paper uses 275, and the mean of the roles is as good as their choice.")
    return tuple(notes)
