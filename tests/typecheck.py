"""The checker that annotations meet when tests run: beartype, with whole numbers serving as floats.

A function's check is compiled when it is first called, and in every test its first calls are checked. Functions inside functions are not: they would
be wrapped anew each time that the outer one runs. All of that took most of the suite's time.
"""

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

CALLS = 30
"""Checks of a function in a test (of arguments and of the result, so half as many calls)."""
_strict = beartype(conf=BeartypeConf(is_pep484_tower=True))
_checked: Counter[tuple[str, str]] = Counter()
_left_alone: list[Any] = []
_jaxtyped: Any = jaxtyping.jaxtyped


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotations checked, from its first call on."""
    name = (function.__module__, function.__qualname__)
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not compiled:
            compiled.append(_strict(function))
        _checked[name] += 1
        if _checked[name] == CALLS:
            _leave_alone(*name)
        return compiled[0](*args, **kwargs)

    return checked


def outermost(*, typechecker: Any) -> Callable[[Any], Any]:
    """Stands for `jaxtyping.jaxtyped` in the modules that are checked."""
    decorate = _jaxtyped(typechecker=typechecker)
    return lambda found: found if "<locals>" in found.__qualname__ else decorate(found)


def begin() -> None:
    """Check every function again."""
    _checked.clear()
    for function in _left_alone:
        del function.__no_type_check__
    _left_alone.clear()


def _leave_alone(module: str, qualname: str) -> None:
    """Let jaxtyping pass a function by."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = inspect.getattr_static(found, part, None)
    found = getattr(found, "fget", None) or getattr(found, "func", None) or getattr(found, "__func__", None) or found
    if not callable(found):
        return
    function = inspect.unwrap(found)
    if inspect.isfunction(function) and function.__qualname__ == qualname and not hasattr(function, "__no_type_check__"):
        function.__no_type_check__ = True  # type: ignore[attr-defined]  # as typing.no_type_check does
        _left_alone.append(function)
