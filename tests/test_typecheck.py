"""The checker of the test run: wrong arguments are refused in every test, and a function that was called often runs unchecked until the next one."""

import pytest
import typecheck
from jaxtyping import TypeCheckError

from microtome.registry import Registry


def test_first_calls_are_checked_in_every_test() -> None:
    registry: Registry[int] = Registry("number of a test")
    registry.register("one")(1)
    wrong: str = 3  # type: ignore[assignment]  # what the checker is for
    with pytest.raises(TypeCheckError, match=r"Registry\.get"):
        registry.get(wrong)
    for _ in range(typecheck.CALLS):
        assert registry.get("one") == 1
    with pytest.raises(TypeCheckError, match=r"errors\.nearest"):  # only what it calls refuses
        registry.get(wrong)
    typecheck.begin()
    with pytest.raises(TypeCheckError, match=r"Registry\.get"):
        registry.get(wrong)
