"""Stored: what shards and pooled activations have in common, sites with their widths and ranges of rows."""

from typing import Any, ClassVar

from microtome.artifacts import Artifact, Opened
from microtome.errors import SiteNotFound, nearest
from microtome.models import Site


class StoredSites(Opened):
    """Activations at some sites, in parts."""

    called: ClassVar[str]
    """What an error calls them."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        summary: dict[str, Any] = dict(artifact.manifest.summary)
        self._widths: dict[str, int] = dict(summary["widths"])
        self.ranges: list[tuple[int, int]] = [(int(start), int(end)) for start, end in summary["ranges"]]
        """Half-open ranges of row numbers, one a shard."""

    @property
    def corpus_id(self) -> str:
        return self._artifact.manifest.inputs["corpus"]

    def site(self, name: "str | Site") -> Site:
        """The stored site of that name; `SiteNotFound` names the nearest."""
        names = list(self._widths)
        if str(name) not in names:
            what = f'the {self.called} {self.path.name} do not hold the site "{name}".'
            raise SiteNotFound(what, got=name, wanted=", ".join(names), do=nearest(str(name), names))
        return Site.parse(str(name))

    def width(self, site: "str | Site") -> int:
        """Length of a site's rows."""
        return self._widths[str(self.site(site))]
