"""Passages on the command line: a file of them, or the built-in ones."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microtome.errors import CorpusInvalid, CorpusNotFound

if TYPE_CHECKING:
    import microtome.directions
    import microtome.directions.recipes


def passages_of(file: Path, *, chat: bool) -> "list[microtome.directions.Passage]":
    """One a line of a text file; of a .jsonl, each line's "messages" or "text". `chat` makes a text a user's turn."""
    from microtome.conversation import from_messages
    from microtome.directions import asked

    lines = [line.strip() for line in lines_of(file)]
    if file.suffix != ".jsonl":
        return [asked(line) if chat else line for line in lines]
    found: list[microtome.directions.Passage] = []
    for number, line in enumerate(lines, start=1):
        row = _row(line, f"{file}:{number}")
        if "messages" in row:
            found.append(from_messages(row["messages"], where=f"{file}:{number} messages"))
        else:
            found.append(asked(str(row["text"])) if chat else str(row["text"]))
    return found


def preferences_of(file: Path, *, chat: bool) -> "list[microtome.directions.recipes.Preference]":
    """Of a .jsonl, each line's "prompt" (or "messages"), "target" and "against"."""
    from microtome.conversation import from_messages
    from microtome.directions import asked
    from microtome.directions.recipes import Preference

    found: list[Preference] = []
    for number, line in enumerate(lines_of(file), start=1):
        where, wanted = f"{file}:{number}", '{"prompt": …, "target": …, "against": …}'
        row = _object(line, where, wanted=wanted)
        if not all(isinstance(row.get(name), str) for name in ("target", "against")) or not ("messages" in row or isinstance(row.get("prompt"), str)):
            raise CorpusInvalid(f"{where} is no preference.", got=line[:80], wanted=wanted, do="Correct the line.")
        prompt = from_messages(row["messages"], where=f"{where} messages") if "messages" in row else str(row["prompt"])
        prompt = asked(prompt) if chat and isinstance(prompt, str) else prompt
        found.append(Preference(prompt=prompt, target=str(row["target"]), against=str(row["against"])))
    return found


def stories_of(file: Path) -> "list[microtome.directions.recipes.Story]":
    """Of a .jsonl, each line's "sentences" and "entities"."""
    from microtome.directions.recipes import Story

    found: list[Story] = []
    for number, line in enumerate(lines_of(file), start=1):
        where, wanted = f"{file}:{number}", '{"sentences": […], "entities": […]}'
        row = _object(line, where, wanted=wanted)
        parts = [row.get("sentences"), row.get("entities")]
        texts = [[str(item) for item in part] for part in parts if isinstance(part, list) and all(isinstance(item, str) for item in part)]
        if len(texts) != 2:
            raise CorpusInvalid(f"{where} is no story.", got=line[:80], wanted=wanted, do="Correct the line.")
        found.append(Story(sentences=tuple(texts[0]), entities=tuple(texts[1])))
    return found


def lines_of(file: Path) -> list[str]:
    """The lines of a UTF-8 text that are not blank, with their spaces. Raises `CorpusNotFound` and `CorpusInvalid`."""
    if not file.is_file():
        got = f"{file}, a folder" if file.is_dir() else file
        raise CorpusNotFound(f"there is no file {file}.", got=got, wanted="a .txt or .jsonl file", do="Check the path.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusInvalid(f"{file} is not UTF-8.", got=str(error), wanted="UTF-8 text", do="Convert it: iconv -f UTF-16 -t UTF-8.") from error
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise CorpusInvalid(f"{file} holds no text.", got="no lines", wanted="one text a line", do="Write some.")
    return lines


def _row(line: str, where: str) -> dict[str, Any]:
    wanted = '{"text": …} or {"messages": […]}'
    row = _object(line, where, wanted=wanted)
    if not ("messages" in row or isinstance(row.get("text"), str)):
        raise CorpusInvalid(f"{where} has no passage.", got=line[:80], wanted=wanted, do="Correct the line.")
    return row


def _object(line: str, where: str, *, wanted: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CorpusInvalid(f"{where} is not JSON.", got=line[:80], wanted=wanted, do="Correct the line.") from error
    if not isinstance(row, dict):
        raise CorpusInvalid(f"{where} is no object.", got=line[:80], wanted=wanted, do="Correct the line.")
    return row
