"""`microtome variants`: the named sets of edits of a workspace."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from microtome.cli.cards import plain, titled
from microtome.cli.session import Common, Session

if TYPE_CHECKING:
    from microtome.steering import Variant


def variants(
    *,
    remove: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """List the saved variants of a workspace: named sets of edits, which `microtome serve` offers as models.

    `microtome steer … --save-as NAME` makes one; `--edits NAME` uses it again. Examples:

        microtome variants

        microtome variants --remove sailor

    Parameters
    ----------
    remove
        Names of variants to delete.
    """
    from microtome.steering import load_variant

    with Session(common) as session:
        for name in remove:
            session.workspace.remove("variant", name)
        found = [load_variant(session.workspace.place("variant", name)) for name in session.workspace.names("variant")]
        table = titled(f"{len(found)} saved variant{'' if len(found) == 1 else 's'}")
        for heading in ("name", "model", "edits", "fingerprint"):
            table.add_column(heading)
        for each in found:
            table.add_row(
                *map(Text, (plain(each.name), plain(each.model), ", ".join(edit.kind for edit in each.edits.edits), each.edits.fingerprint))
            )
        session.result({"variants": [_row(each) for each in found], "removed": list(remove)}, table)


def _row(variant: "Variant") -> dict[str, object]:
    edits = {"edits": [edit.kind for edit in variant.edits.edits], "fingerprint": variant.edits.fingerprint}
    return {"name": variant.name, "model": variant.model, "model_fingerprint": variant.fingerprint, **edits}
