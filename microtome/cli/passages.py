"""Passages on the command line: a file of them, or the built-in ones."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from microtome.errors import CorpusInvalid, CorpusNotFound

if TYPE_CHECKING:
    import microtome.directions


def passages_of(file: Path, *, chat: bool) -> "list[microtome.directions.Passage]":
    """One a line of a text file; of a .jsonl, each line's "messages" or "text". `chat` makes a text a user's turn."""
    from microtome.conversation import from_messages
    from microtome.directions import asked

    if not file.is_file():
        raise CorpusNotFound(f"there is no file {file}.", got=file, wanted="a .txt or .jsonl file", do="Check the path.")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise CorpusInvalid(f"{file} is not UTF-8.", got=str(error), wanted="UTF-8 text", do="Convert it.") from error
    if not lines:
        raise CorpusInvalid(f"{file} holds no passage.", got="no lines", wanted="one passage a line", do="Write some.")
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


def _row(line: str, where: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CorpusInvalid(f"{where} is not JSON.", got=line[:80], wanted='{"text": …} or {"messages": […]}', do="Correct the line.") from error
    if not isinstance(row, dict) or not ("messages" in row or isinstance(row.get("text"), str)):
        raise CorpusInvalid(f"{where} has no passage.", got=line[:80], wanted='{"text": …} or {"messages": […]}', do="Correct the line.")
    return row
