"""Datasets on the Hugging Face hub, through the optional package `datasets`."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, final

from microtome.activations.corpus import CorpusConfig
from microtome.activations.sources import SOURCES, Document, Unreadable, read_record
from microtome.errors import CorpusNotFound, DependencyMissing
from microtome.progress import Progress


@SOURCES.register("hub")
@final
class HubDataset:
    """`org/name`, `org/name:config` or either with `@revision`: the rows of its `train` split (of its first, if it has none)."""

    def __init__(self, config: CorpusConfig) -> None:
        self._config = config

    def fingerprint(self) -> str:
        return str(self._rows._fingerprint)

    def count(self) -> int | None:
        return len(self._rows)

    def documents(self, *, progress: Progress | None = None) -> Iterator[Document | Unreadable]:
        for number, record in enumerate(self._rows):
            yield read_record(record, self._config, where=f"{self._config.source}, row {number}", source=self._config.source)

    @cached_property
    def _rows(self) -> Any:
        try:
            import datasets
            from datasets.exceptions import DatasetsError
        except ImportError as error:
            do = "Install it: pip install 'microtome[datasets]'."
            what = "reading a dataset from the hub needs the package datasets."
            raise DependencyMissing(what, got="not installed", wanted="datasets >= 4", do=do) from error
        name, _, revision = self._config.source.partition("@")
        path, _, subset = name.partition(":")
        try:
            splits: Any = datasets.load_dataset(path, subset or None, revision=revision or None)
        except (OSError, ValueError, DatasetsError) as error:
            do = "Check the name and the connection, or give a path: for a local file write ./name."
            what = f'the dataset "{self._config.source}" cannot be loaded from the hub.'
            raise CorpusNotFound(what, got=str(error).splitlines()[0][:300], wanted="a public dataset, or a file that exists", do=do) from error
        return splits["train"] if "train" in splits else next(iter(splits.values()))
