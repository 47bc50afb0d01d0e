"""Every error that a user can cause, each saying what happened, what was got, what was wanted, and what to do.

A kind is a class here and a section of docs/errors.md (the docs check fails otherwise). Our own bugs are asserted instead.
"""

import difflib
import re
from collections.abc import Iterable


class MicrotomeError(Exception):
    """Base of all user-facing errors: four parts, printed one a line.

    `what` is one sentence; `got` and `wanted` are the value met and the value that would have worked; `do` is the way out.
    """

    def __init__(self, what: str, *, got: object = None, wanted: object = None, do: str) -> None:
        self.what = what
        self.got = got
        self.wanted = wanted
        self.do = do
        super().__init__(what)

    @classmethod
    def slug(cls) -> str:
        """The anchor of this kind in docs/errors.md, e.g. `site-not-found`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    def to_json(self) -> dict[str, object]:
        """The four parts as JSON-ready values, for `--json` output and the web API."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "got": None if self.got is None else str(self.got),
            "wanted": None if self.wanted is None else str(self.wanted),
            "do": self.do,
            "docs": f"docs/errors.md#{self.slug()}",
        }

    def __str__(self) -> str:
        lines = [self.what]
        if self.got is not None:
            lines.append(f"  got:    {self.got}")
        if self.wanted is not None:
            lines.append(f"  wanted: {self.wanted}")
        lines.append(f"  do:     {self.do}  See docs/errors.md#{self.slug()}")
        return "\n".join(lines)


def nearest(name: str, options: Iterable[str]) -> str:
    """`Did you mean "x"?` for the closest option, or a list of (at most 12) options when nothing is close."""
    known = list(options)
    folded = {option.lower(): option for option in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    if close:
        return f'Did you mean "{folded[close[0]]}"?'
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"Choose one of: {shown}." if known else "There is nothing to choose from yet."


class ConfigError(MicrotomeError):
    """A config holds an unknown, missing or unfit value."""


class NotRegistered(MicrotomeError):
    """A name is not in the registry it was looked up in."""


class ArtifactMissing(MicrotomeError):
    """There is no finished artifact at that path."""


class ArtifactDamaged(MicrotomeError):
    """A file of an artifact is missing, truncated or does not match its sha256."""


class ArtifactForeign(MicrotomeError):
    """An artifact is of another kind, or of a format version that this release cannot read."""


class ArtifactConflict(MicrotomeError):
    """A folder already holds other work than what was asked to be written there."""


class WorkspaceBusy(MicrotomeError):
    """Another process is writing the same artifact."""


class WorkspaceReadOnly(MicrotomeError):
    """A label or note cannot be kept because the workspace cannot be written."""


class DiskFull(MicrotomeError):
    """The disk ran full while writing; what was finished is kept."""


class CarrierUnavailable(MicrotomeError):
    """A package that carries a model or a text could not be downloaded, or is not the pinned file."""


class ModelNotFound(MicrotomeError):
    """A model reference names nothing that can be loaded."""


class ModelUnsupported(MicrotomeError):
    """A model breaks the rule residual = sum of parts, or cannot be tapped."""


class ModelTapped(MicrotomeError):
    """Work that is kept as the model's own was begun under a tap, which may change it."""


class SelfCheckFailed(MicrotomeError):
    """A model loaded, but its sites do not mean what they say."""


class SiteNotFound(MicrotomeError):
    """A site name does not exist in the model."""


class ModelDamaged(MicrotomeError):
    """A model's file is truncated or cannot be read."""


class ChatNotRendered(MicrotomeError):
    """A conversation cannot be turned into tokens with exact spans by the model's chat template."""


class TokenOutOfRange(MicrotomeError):
    """Token ids do not fit the model's vocabulary or the input is empty or too long."""


class CorpusNotFound(MicrotomeError):
    """A corpus name or path names nothing that can be read."""


class CorpusInvalid(MicrotomeError):
    """A corpus file holds something that cannot be turned into documents."""


class ActivationsNotFinite(MicrotomeError):
    """A captured activation is NaN or infinite, or overflows the storage type."""


class DictionaryInvalid(MicrotomeError):
    """Dictionary weights have the wrong shape, the wrong names or values that are not finite."""


class FormatUnknown(MicrotomeError):
    """Nothing at a path or reference looks like a dictionary in a format that microtome reads."""


class FormatUnsupported(MicrotomeError):
    """A dictionary's file is in order, but computes something that no dictionary of microtome does."""


class BundleInvalid(MicrotomeError):
    """A file about features in another tool's format is out of order: no JSON, a field missing, lists of different lengths."""


class FormatCannotHold(MicrotomeError):
    """A file format has no place for something that a dictionary is."""


class HookUnknown(MicrotomeError):
    """Another library's name for a place in a model is no site, or a site has no such name."""


class PickleRefused(MicrotomeError):
    """A pickled file holds more than tensors, so that reading it would run its code."""


class HubUnavailable(MicrotomeError):
    """A repository or file of a hub reference cannot be downloaded."""


class ShapeMismatch(MicrotomeError):
    """Two artifacts do not fit each other: other width, other site, other model."""


class TrainingDiverged(MicrotomeError):
    """A loss became NaN or infinite."""


class ProcessLost(MicrotomeError):
    """A process that trains together with this one ended or cannot be reached."""


class NotEnoughTokens(MicrotomeError):
    """There are too few tokens for what was asked."""


class FeatureNotFound(MicrotomeError):
    """A feature number is outside the dictionary."""


class DocumentNotFound(MicrotomeError):
    """A document number is outside the corpus."""


class QueryInvalid(MicrotomeError):
    """A filter, sort key or search text cannot be understood."""


class PortTaken(MicrotomeError):
    """The server's port is in use."""


class RequestRefused(MicrotomeError):
    """A web request came from another host or origin, or lacks the header that writes need."""


class PageNotFound(MicrotomeError):
    """A web address leads nowhere."""


class ModelBusy(MicrotomeError):
    """More questions wait for the model of a server than it takes at once."""


class ServerFailed(MicrotomeError):
    """The server met a mistake of its own while it answered."""


class DependencyMissing(MicrotomeError):
    """An optional package is not installed."""


class SystemRefused(MicrotomeError):
    """The operating system refuses a file or folder: no permission, a name too long, a file where a folder should be."""


class CommandInvalid(MicrotomeError):
    """A command line has an unknown verb or option, or lacks or misspells a value."""


class DirectionInvalid(MicrotomeError):
    """A direction is not a vector of finite numbers, or cannot be read."""


class ZeroDirection(MicrotomeError):
    """A direction has length 0, so nothing lies along it."""


class DirectionForeign(MicrotomeError):
    """A direction was made with another model than the one it is used with."""


class EditInvalid(MicrotomeError):
    """An edit asks for something that its operation or the model cannot do."""


class EditsConflict(MicrotomeError):
    """Two edits change the same tokens at the same site, and their order would matter."""


class NothingToEdit(MicrotomeError):
    """A where-clause selects no token."""


class StrengthUncalibrated(MicrotomeError):
    """A strength is relative to a maximum or a percentile that is not known."""


class FeatureNeverActive(MicrotomeError):
    """A strength is a multiple of the maximum of a feature that never fired."""


class GraphInvalid(MicrotomeError):
    """A graph, or a file that should hold one, contradicts itself or lacks a part."""


class NodeNotFound(MicrotomeError):
    """A graph has no node of that name."""


class GraphUnbalanced(MicrotomeError):
    """What flows into a traced target does not add up to its pre-activation."""


class TargetInvalid(MicrotomeError):
    """A target of an attribution graph is not there, or not a single token."""
