"""`microtome keep`: lists, verdicts, notes and labels that a person keeps of an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Group
from rich.text import Text

from microtome.cli.cards import plain, titled
from microtome.cli.session import Common, Session
from microtome.cli.words import count
from microtome.errors import CommandInvalid

if TYPE_CHECKING:
    import microtome.features


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What is kept of the features."""

    to: str | None = None
    """Put the features on this list."""
    off: str | None = None
    """Take the features off this list; without features the list itself goes."""
    where: str | None = None
    """The features that pass this filter of the table, beside those that are named."""
    verdict: Literal["holds", "partly", "wrong", "unclear", "none"] | None = None
    """What became of their labels; none takes it back."""
    note: str | None = None
    """A remark on each of them."""
    label: str | None = None
    """A label of one's own for the feature; "" brings the rule's back."""

    @property
    def changes(self) -> bool:
        """Whether anything is to be written."""
        return any(value is not None for value in (self.to, self.off, self.verdict, self.note, self.label))


def keep(
    index: str,
    features: tuple[int, ...] = (),
    *,
    keeping: Keeping = Keeping(),
    out: Path | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=0))] = 40,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Keep features on lists, with verdicts, notes and labels of one's own, and export all of it.

    Examples:

    What is kept of an index; the same in a file for other programs:

        microtome keep wiki

        microtome keep wiki --out kept.json

        microtome keep wiki --out kept.csv

    Put two features on a list; then all that pass a filter; take one off again:

        microtome keep wiki 12 1234 --to dates

        microtome keep wiki --where 'label ~ "january" and f1 > 0.8' --to dates

        microtome keep wiki 12 --off dates

    Say what became of a label:

        microtome keep wiki 1234 --verdict partly --note "also fires on years"

    In the table and its filters a list is a column: list = "dates".

    Parameters
    ----------
    index
        Name of an index, or its path.
    features
        Numbers of features.
    out
        Write all that is kept to this file: .json, or .csv with a line a feature.
    limit
        Most lines to print.
    """
    from microtome.features import FeatureIndex

    with Session(common) as session:
        opened = FeatureIndex.open(session.find("index", index), session.workspace)
        chosen = [*features, *(opened.select(filter=keeping.where) if keeping.where is not None else ())]
        _check(keeping, chosen, out=out)
        _change(opened, chosen, keeping)
        found = opened.kept()
        if out is not None:
            out.write_text(exported(found, out), encoding="utf-8", newline="")
        session.result({"kept": found, "changed": chosen if keeping.changes else []}, kept_view(found, limit=limit))


def _check(keeping: Keeping, chosen: Sequence[int], *, out: Path | None) -> None:
    alone = (keeping.to, keeping.verdict, keeping.note, keeping.label, keeping.where) == (None,) * 5
    if keeping.changes and not chosen and not (keeping.off is not None and alone):
        do = "Name features, or give a filter that some pass: --where 'density > 0.1'."
        raise CommandInvalid("no feature is named to keep this of.", got="no features", wanted="at least one", do=do)
    if chosen and not keeping.changes:
        do = "Say what to keep: --to LIST, --off LIST, --verdict, --note or --label."
        raise CommandInvalid("there is nothing to keep of these features.", got=f"{len(chosen)} features", wanted="what to keep", do=do)
    if out is not None and out.suffix not in (".json", ".csv"):
        do = "Give it the name kept.json or kept.csv, say."
        raise CommandInvalid(f"{out.name} names no format.", got=out.suffix or "no suffix", wanted=".json or .csv", do=do)


def _change(index: "microtome.features.FeatureIndex", chosen: Sequence[int], keeping: Keeping) -> None:
    if keeping.off is not None and keeping.to is not None:
        index.move_to_list(chosen, off=keeping.off, to=keeping.to)
    elif keeping.off is not None:
        index.change_list(keeping.off, remove=chosen) if chosen else index.drop_list(keeping.off)
    elif keeping.to is not None:
        index.change_list(keeping.to, add=chosen)
    for feature in chosen:
        if keeping.verdict is not None:
            index.set_verdict(feature, verdict="" if keeping.verdict == "none" else keeping.verdict)
        if keeping.note is not None:
            index.add_note(feature, text=keeping.note)
        if keeping.label is not None:
            index.set_label(feature, text=keeping.label)


def exported(found: "microtome.features.Kept", out: Path) -> str:
    """The text of the file, by its suffix."""
    import json

    from microtome.config import to_dict
    from microtome.features import kept_csv

    return kept_csv(found) if out.suffix == ".csv" else json.dumps(to_dict(found), ensure_ascii=False, indent=1) + "\n"


def kept_view(found: "microtome.features.Kept", *, limit: int) -> Group:
    """Lists, then every feature about which something was said."""
    lists = titled(f"{count(len(found.lists))} lists of {found.index}")
    for heading in ("list", "features", "made"):
        lists.add_column(heading, justify="right" if heading == "features" else "left")
    for each in found.lists:
        lists.add_row(*(Text(cell) for cell in [plain(each.name), count(len(each.features)), each.created[:10]]))
    table = titled(f"{count(len(found.features))} features with a list, a verdict, a note or a label of a person")
    for heading in ("feature", "label", "verdict", "lists", "notes"):
        table.add_column(heading, justify="right" if heading == "feature" else "left")
    for one in found.features[:limit]:
        notes = " · ".join(note.text for note in one.notes)
        mine = " (yours)" if one.origin == "user" else ""
        table.add_row(*(Text(plain(cell)) for cell in [str(one.feature), one.label + mine, one.verdict, ", ".join(one.lists), notes]))
    return Group(lists, table)
