"""Dictionaries on the hub: `org/repo[/sub/folder][@revision]`, of which the files that a reading needs are downloaded and no others."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from microtome.errors import HubUnavailable

_REFERENCE = re.compile(r"([\w.-]+/[\w.-]+)((?:/[^/@]+)*)/?(?:@([^@\s]+))?")
_HTTP: type[Exception] = next(base for base in HfHubHTTPError.__mro__ if base.__name__ in ("HTTPError", "RequestException"))
"""What the client's own HTTP library raises when nobody answers; which library that is differs between its releases."""
_FAILURES = (OSError, _HTTP, HFValidationError)


class HubRef(NamedTuple):
    """A folder of a repository at a revision."""

    repo: str
    folder: str
    """Without a slash at its ends; empty for the whole repository."""
    revision: str | None

    def __str__(self) -> str:
        return "/".join(filter(None, (self.repo, self.folder))) + (f"@{self.revision}" if self.revision else "")


def parse_ref(text: str) -> HubRef | None:
    """The hub reference that `text` is, or None if it can only be a path.

    >>> parse_ref("google/gemma-scope-2b-pt-res/layer_20@main")
    HubRef(repo='google/gemma-scope-2b-pt-res', folder='layer_20', revision='main')
    """
    match = _REFERENCE.fullmatch(text.removeprefix("hf://"))
    if match is None or text.startswith((".", "/", "~")):
        return None
    return HubRef(match[1], match[2].strip("/"), match[3])


def folder_of(ref: HubRef, *, wanted: Callable[[list[str]], Sequence[str]]) -> Path:
    """The folder on this machine that holds the files of `ref` which `wanted` picks from their names; already there, they are not asked for again.

    Without a network, or with HF_HUB_OFFLINE set, what was downloaded before is used. Otherwise `HubUnavailable` says what is wrong.
    """
    prefix = f"{ref.folder}/" if ref.folder else ""
    try:
        found = HfApi().model_info(ref.repo, revision=ref.revision)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise _unavailable(str(ref), error) from error
    except _FAILURES as error:
        return _kept(ref, error) / ref.folder
    names = [file.rfilename.removeprefix(prefix) for file in found.siblings or [] if file.rfilename.startswith(prefix)]
    files = wanted(names)
    folders: list[Path] = []
    try:
        for name in files:
            file = hf_hub_download(ref.repo, prefix + name, revision=ref.revision)  # by the name that offline runs will ask for
            folders.append(Path(file).parents[name.count("/")])
    except _FAILURES as error:
        raise _unavailable(str(ref), error) from error
    if len(set(folders)) != 1:
        got = f"{len(set(folders))} revisions"
        raise HubUnavailable(f"{ref} changed while it was downloaded.", got=got, wanted="one", do="Load it again, or name a commit: @0123abc….")
    return folders[0]


def file_of(address: str) -> Path:
    """The file that `hf://org/repo/path?revision=…` names, on this machine."""
    parts = urlsplit(address)
    repository, _, name = parts.path.lstrip("/").partition("/")
    try:
        return Path(hf_hub_download(f"{parts.netloc}/{repository}", name, revision=parse_qs(parts.query).get("revision", [None])[0]))
    except _FAILURES as error:
        raise _unavailable(address, error) from error


def _kept(ref: HubRef, error: Exception) -> Path:
    """What earlier downloads of the repository left."""
    try:
        return Path(snapshot_download(ref.repo, revision=ref.revision, local_files_only=True))
    except _FAILURES as missing:
        raise _unavailable(str(ref), error) from missing


def _unavailable(name: str, error: Exception) -> HubUnavailable:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    do = "Correct the name, check the network, or log in (hf auth login) and accept the repository's licence. For a local folder, check its path."
    return HubUnavailable(f"{name} is no local path, and cannot be had from the hub.", got=reason, wanted="org/repo[/sub/folder][@revision]", do=do)
