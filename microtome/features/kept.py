"""What people keep of an index: lists of features, labels of their own, verdicts and notes; as one record, and as a table for other programs."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from microtome.errors import QueryInvalid, nearest
from microtome.features.records import Note
from microtome.features.store import Store

VERDICTS = ("holds", "partly", "wrong", "unclear")
"""What a person can find of a feature's label: that it holds, holds partly, is wrong, or that no label can be told."""
LONGEST_NAME = 80
CSV_COLUMNS = ("feature", "site", "label", "origin", "verdict", "lists", "notes", "density", "max")


@dataclass(frozen=True, kw_only=True)
class FeatureList:
    """Features that somebody put together."""

    name: str
    features: tuple[int, ...]
    """Ascending."""
    created: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True)
class KeptFeature:
    """A feature about which somebody said something."""

    feature: int
    site: str
    label: str
    origin: str
    """Of the label: `rule` or `user`."""
    verdict: str
    """One of `VERDICTS`, or ""."""
    lists: tuple[str, ...]
    notes: tuple[Note, ...]
    density: float
    max: float


@dataclass(frozen=True, kw_only=True)
class Kept:
    """All that people keep of an index."""

    index: str
    id: str
    """Of the index: numbers mean these features in this index alone."""
    lists: tuple[FeatureList, ...]
    """Oldest first."""
    features: tuple[KeptFeature, ...]
    """Every feature with a label of a person, a verdict, a note or on a list; ascending."""


def kept(store: Store) -> Kept:
    """What people keep of an index now."""
    labels, notes = store.labelled(), store.catalogue.all_notes(store.id)
    known = sorted({*labels.by_user, *labels.verdicts, *labels.lists, *notes})
    numbers = store.rows.numbers
    features = tuple(
        KeptFeature(
            feature=feature,
            site=store.sites[feature],
            label=labels.texts[feature],
            origin="user" if feature in labels.by_user else "rule",
            verdict=labels.verdicts.get(feature, ""),
            lists=labels.lists.get(feature, ()),
            notes=notes.get(feature, ()),
            density=float(numbers["density"][feature]),
            max=float(numbers["max"][feature]),
        )
        for feature in known
    )
    lists = store.catalogue.lists(store.id).items()
    return Kept(
        index=store.name,
        id=store.id,
        lists=tuple(FeatureList(name=name, features=listed, created=created) for name, (created, listed) in lists),
        features=features,
    )


def to_csv(found: Kept) -> str:
    """A line a feature under `CSV_COLUMNS` (RFC 4180); several lists are joined by "; ", several notes by line breaks. Texts stand as they are."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    for one in found.features:
        notes = "\n".join(note.text for note in one.notes)
        writer.writerow([one.feature, one.site, one.label, one.origin, one.verdict, "; ".join(one.lists), notes, one.density, one.max])
    return out.getvalue()


def list_name(name: str) -> str:
    """The name of a list as it is kept. Raises `QueryInvalid`."""
    said = name.strip()
    if not said or len(said) > LONGEST_NAME or not said.isprintable():
        do = "Give the list a short name."
        raise QueryInvalid("a list cannot be called so.", got=repr(name[:100]), wanted=f"1 to {LONGEST_NAME} printable characters", do=do)
    return said


def check_verdict(verdict: str) -> str:
    """A verdict that is known, or "". Raises `QueryInvalid`."""
    if verdict and verdict not in VERDICTS:
        raise QueryInvalid("that is no verdict.", got=verdict[:100], wanted=", ".join(VERDICTS), do=nearest(verdict, VERDICTS))
    return verdict


class Keeping:
    """What a person can say of the features of an index: the part of `FeatureIndex` that writes to the catalogue."""

    store: Store

    def set_label(self, feature: int, *, text: str) -> None:
        """Give a feature a label of one's own; an empty text brings the rule's back."""
        self.store.catalogue.set_label(self.store.id, self.store.known(feature), text=text)

    def add_note(self, feature: int, *, text: str) -> None:
        """Leave a remark on a feature."""
        self.store.catalogue.add_note(self.store.id, self.store.known(feature), text=text)

    def set_verdict(self, feature: int, *, verdict: str) -> None:
        """Say of a feature's label that it `holds`, holds `partly`, is `wrong`, or that none can be told (`unclear`); "" takes that back.

        Raises `QueryInvalid`, `WorkspaceReadOnly`.
        """
        self.store.catalogue.set_verdict(self.store.id, self.store.known(feature), verdict=check_verdict(verdict))

    def move_to_list(self, features: Sequence[int], *, off: str, to: str) -> None:
        """Take features off one list and put them on another; neither changes where a name cannot be. Raises as `change_list`."""
        known = [self.store.known(feature) for feature in features]
        before, after = self._known_list(off), list_name(to)
        self.store.catalogue.change_list(self.store.id, before, remove=known)
        self.store.catalogue.change_list(self.store.id, after, add=known)

    def change_list(self, name: str, *, add: Sequence[int] = (), remove: Sequence[int] = ()) -> None:
        """Put features on a list, which is made where there is none, and take others off; what is not on it may be taken off too.

        Raises `FeatureNotFound`, `QueryInvalid` (a name that cannot be one, or nothing to take features off), `WorkspaceReadOnly`.
        """
        known = [[self.store.known(feature) for feature in some] for some in (add, remove)]
        said = list_name(name) if add or not remove else self._known_list(name)
        self.store.catalogue.change_list(self.store.id, said, add=known[0], remove=known[1])

    def drop_list(self, name: str) -> None:
        """Take a list away. Raises `QueryInvalid` (there is none of that name), `WorkspaceReadOnly`."""
        self.store.catalogue.drop_list(self.store.id, self._known_list(name))

    def kept(self) -> Kept:
        """What people keep of it: lists, labels of their own, verdicts and notes; `kept_csv` makes a table of it."""
        return kept(self.store)

    def _known_list(self, name: str) -> str:
        """The name of a list that is there. Raises `QueryInvalid`."""
        said, names = list_name(name), list(self.store.catalogue.lists(self.store.id))
        if said not in names:
            what = f'there is no list "{said}" of {self.store.name}.'
            raise QueryInvalid(what, got=said, wanted="the name of a list", do=nearest(said, names))
        return said
