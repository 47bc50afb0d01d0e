"""Named parts: a registry a kind, filled by `@register("name")` and by entry points `microtome.<kind>` of other packages."""

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from microtome.errors import NotRegistered, nearest

T = TypeVar("T")

REGISTRIES: "dict[str, Registry[Any]]" = {}


class Registry(Generic[T]):
    """The parts of one kind (`nonlinearity`, `source`, …) by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, T] = {}
        self._guests_loaded = False
        REGISTRIES[kind] = self

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: add a part under `name`; a second part of the same name is our bug."""

        def add(part: T) -> T:
            assert name not in self._parts, f"{self.kind} {name!r} is registered twice"
            self._parts[name] = part
            return part

        return add

    def get(self, name: str) -> T:
        """The part called `name`; an unknown name raises `NotRegistered` with the nearest one."""
        self._load_guests()
        if name not in self._parts:
            raise NotRegistered(f'no {self.kind} is called "{name}".', got=name, wanted=", ".join(self._parts), do=nearest(name, self._parts))
        return self._parts[name]

    def names(self) -> list[str]:
        self._load_guests()
        return sorted(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: str) -> bool:
        self._load_guests()
        return name in self._parts

    def _load_guests(self) -> None:
        if self._guests_loaded:
            return
        self._guests_loaded = True
        for point in entry_points(group=f"microtome.{self.kind}"):
            if point.name not in self._parts:
                self._parts[point.name] = point.load()
