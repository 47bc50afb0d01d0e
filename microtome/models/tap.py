"""The one primitive for reading and changing activations: hooks that are installed once, stay inert, and look up a context variable.

A tap is seen only by the thread (or task) that opened it, can be opened inside another, and always ends as it began.
"""

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn

from microtome.errors import ModelUnsupported, ShapeMismatch
from microtome.models.discover import Place, hidden_of, leading_tensor
from microtome.models.sites import Site
from microtome.shapes import Tensor

Edit: TypeAlias = Callable[[Tensor], Tensor | None]
"""Takes the activations at a site, `[batch pos width]`, and gives those to go on with (None: unchanged)."""


@dataclass(eq=False, kw_only=True)
class _Frame:
    """One open tap."""

    taps: "Taps"
    read: frozenset[Site]
    edit: Mapping[Site, Edit]
    stop: bool
    """Whether the forward ends once every site of `read` was seen."""
    seen: dict[Site, Tensor] = field(default_factory=lambda: {})
    residual: dict[int, Tensor] = field(default_factory=lambda: {})
    """By layer, the block's input, where `resid_mid` will need it."""
    versions: dict[Site, int] = field(default_factory=lambda: {})

    def __post_init__(self) -> None:
        self.mid_layers = {site.layer for site in (*self.read, *self.edit) if site.kind == "resid_mid"}

    def value(self, x: Tensor, site: Site, *, scale: float) -> Tensor:
        """The activations at a site, from the tensor of the module where it is found."""
        write = x if scale == 1.0 else x * scale
        if site.kind != "resid_mid":
            return write
        assert site.layer is not None
        return self.residual[site.layer] + write

    def edited(self, x: Tensor, site: Site, *, scale: float) -> Tensor:
        """The module's tensor after this tap's edit. Where the site is not that tensor itself, the difference is added: no edit, no bit changed."""
        value = self.value(x, site, scale=scale)
        new = self.edit[site](value)
        if new is None or new is value:
            return x
        if new.shape != value.shape:
            what = f"the edit at {site} changed the shape of the activations."
            raise ShapeMismatch(what, got=tuple(new.shape), wanted=tuple(value.shape), do="Return a tensor of the shape that was given.")
        if scale == 1.0 and site.kind != "resid_mid":
            return new.to(x.dtype)
        return (x + (new - value) / scale).to(x.dtype)

    def note(self, x: Tensor, site: Site, *, scale: float) -> None:
        """Keep what this tap wants of a site."""
        if site.kind == "resid_pre" and site.layer in self.mid_layers:
            assert site.layer is not None
            self.residual[site.layer] = x
        if site in self.read:
            value = self.value(x, site, scale=scale)
            self.seen[site] = value.clone() if value.is_inference() else value
            if not value.is_inference():
                self.versions[site] = value._version

    def is_done(self) -> bool:
        return self.stop and len(self.seen) == len(self.read)


class StopForward(BaseException):
    """Ends a forward from inside a hook once everything wanted was seen; never leaves `Taps.tap`."""

    def __init__(self, frame: _Frame) -> None:
        super().__init__()
        self.frame = frame


_OPEN: ContextVar[tuple[_Frame, ...]] = ContextVar("microtome_open_taps", default=())


class Taps:
    """The hooks of one model."""

    def __init__(self, places: Mapping[Site, Place]) -> None:
        at: dict[tuple[nn.Module, str], list[tuple[Site, float]]] = {}
        for site, place in places.items():
            at.setdefault((place.module, place.side), []).append((site, place.scale))
        for (module, side), here in at.items():
            self._install(module, side, tuple(sorted(here)))

    @contextmanager
    def tap(self, *, read: Collection[Site], edit: Mapping[Site, Edit], stop: bool = False) -> Generator[dict[Site, Tensor]]:
        """Within the block, forwards of this thread apply `edit` and fill the yielded mapping for the sites of `read`."""
        frame = _Frame(taps=self, read=frozenset(read), edit=dict(edit), stop=stop)
        token = _OPEN.set((*_OPEN.get(), frame))
        try:
            yield frame.seen
        except StopForward as stopped:
            if stopped.frame is not frame:
                raise
        finally:
            _OPEN.reset(token)
        _refuse_overwritten(frame)

    @property
    def is_open(self) -> bool:
        """Whether forwards of this thread run under a tap; those of other threads do not."""
        return any(frame.taps is self for frame in _OPEN.get())

    def _install(self, module: nn.Module, side: str, here: tuple[tuple[Site, float], ...]) -> None:
        def after(_: nn.Module, __: tuple[Any, ...], out: Any) -> Any:
            if not _OPEN.get():
                return None
            x = leading_tensor(out)
            y = None if x is None else self._touch(x, here)
            if y is x:
                return None
            return y if isinstance(out, Tensor) else type(out)(y if item is x else item for item in out)

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not _OPEN.get():
                return None
            x = hidden_of(args, kwargs)
            y = None if x is None else self._touch(x, here)
            if y is x:
                return None
            return tuple(y if item is x else item for item in args), {name: y if item is x else item for name, item in kwargs.items()}

        if side == "out":
            module.register_forward_hook(after)
        else:
            module.register_forward_pre_hook(before, with_kwargs=True)

    def _touch(self, x: Tensor, here: tuple[tuple[Site, float], ...]) -> Tensor:
        """Edits of all open taps, the outermost first; then every reading sees what the model goes on with."""
        frames = [frame for frame in _OPEN.get() if frame.taps is self]
        for site, scale in here:
            for frame in frames:
                if site in frame.edit:
                    x = frame.edited(x, site, scale=scale)
        for site, scale in here:
            for frame in frames:
                frame.note(x, site, scale=scale)
        for frame in frames:
            if frame.is_done():
                raise StopForward(frame)
        return x


def _refuse_overwritten(frame: _Frame) -> None:
    stale = [str(site) for site, version in frame.versions.items() if site in frame.seen and frame.seen[site]._version != version]
    if stale:
        do = "Do not change captured tensors in place inside the tap; if the model does it itself, read another site."
        raise ModelUnsupported("captured activations were overwritten in place.", got=", ".join(stale), wanted="captures left as they were", do=do)
