"""What `microtome show INDEX` can be asked with texts of one's own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from microtome.cli.found import labels_view, prompts_view, search_view, separation_view, tests_view, token_view
from microtome.cli.passages import lines_of
from microtome.cli.session import Session
from microtome.errors import CommandInvalid

if TYPE_CHECKING:
    import microtome.features
    import microtome.models


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """Options that ask an index with texts."""

    text: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """Rank the features of the index by how they respond to this text; given several times, the features that fire on all of them."""
    without: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """Leave out features that fire on this text; can be given several times."""
    test: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """Run this prompt on the feature; can be given several times."""
    test_file: Path | None = None
    """Run the prompts of this file on the feature: one a line, or JSON strings in a .jsonl file."""
    token: str | None = None
    """Features that fire on this token, written with its space, as " the"."""
    label: str | None = None
    """Features with these words in their label."""
    separate: Annotated[tuple[Path, Path] | None, Parameter(negative=())] = None
    """Two files of texts, as --test-file: features that fire on the first and not on the second, by AUC."""

    @property
    def prompts(self) -> bool:
        """Whether a feature is to be tested."""
        return bool(self.test) or self.test_file is not None

    @property
    def features(self) -> bool:
        """Whether features are to be found."""
        return bool(self.text or self.without or self.separate) or self.token is not None or self.label is not None

    @property
    def ways(self) -> tuple[str, ...]:
        """The questions that are asked, by the option of each."""
        ways = {"--text": bool(self.text or self.without), "--token": self.token is not None, "--label": self.label is not None}
        ways |= {"--separate": self.separate is not None, "--test": self.prompts}
        return tuple(name for name, given in ways.items() if given)

    def check(self, feature: int | None) -> None:
        """Refuse what does not go together."""
        if self.prompts and feature is None:
            do = 'Give its number: microtome show wiki 1234 --test "Some text."'
            raise CommandInvalid("no feature is named to test the prompts on.", got="--test without a number", wanted="a feature", do=do)
        if len(self.ways) > 1:
            do = "Ask one after the other."
            raise CommandInvalid("that are several questions at once.", got=", ".join(self.ways), wanted="one of them", do=do)
        if self.without and not self.text:
            do = "Give --text too: a text on which the features must fire."
            raise CommandInvalid("there is nothing to leave features out of.", got="--without alone", wanted="--text and --without", do=do)


def run_prompts(session: Session, index: "microtome.features.FeatureIndex", asked: Asked, *, feature: int) -> None:
    """Prompts on one feature."""
    texts = [*asked.test, *(texts_of(asked.test_file) if asked.test_file is not None else [])]
    model = _model(session, index)
    with session.step("test"):
        tested = index.test_all(model, feature, texts=texts)
    session.result({"tests": tested}, tests_view(tested))


def find_features(session: Session, index: "microtome.features.FeatureIndex", asked: Asked, *, limit: int) -> None:
    """Features by texts, a token, a label or two sets."""
    if asked.token is not None:
        token = index.by_token(asked.token, limit=limit)
        return session.result({"token": token}, token_view(token))
    if asked.label is not None:
        table = index.table(search=asked.label, limit=limit)
        return session.result({"table": table}, labels_view(table))
    if asked.separate is not None:
        one, other = map(texts_of, asked.separate)
        model = _model(session, index)
        with session.step("search"):
            found = index.separate(model, one, negative=other, limit=limit)
        return session.result({"separation": found}, separation_view(found))
    model = _model(session, index)
    with session.step("search"):
        if len(asked.text) == 1 and not asked.without:
            search = index.search(model, asked.text[0], limit=limit)
            return session.result({"search": search}, search_view(search))
        prompts = index.by_prompts(model, asked.text, negative=asked.without, limit=limit)
    return session.result({"prompts": prompts}, prompts_view(prompts))


def texts_of(path: Path) -> list[str]:
    """Texts of a file: a line each, empty ones left out; in a `.jsonl` file a JSON string each, or an object with a `text`."""
    lines = lines_of(path)
    if path.suffix != ".jsonl":
        return lines
    found: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise _unread(path, number, line) from error
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise _unread(path, number, line)
        found.append(text)
    return found


def _unread(path: Path, number: int, line: str) -> CommandInvalid:
    wanted = 'a JSON string, or an object with a "text"'
    return CommandInvalid(f"line {number} of {path} holds no text.", got=line[:80], wanted=wanted, do="Correct the line.")


def _model(session: Session, index: "microtome.features.FeatureIndex") -> "microtome.models.Model":
    from microtome.models import load

    with session.step("load model"):
        return load(index.overview().sources["model"], progress=session.progress)
