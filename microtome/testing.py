"""For the tests of those who extend microtome: tiny models that need no network, and checks that a new part keeps its promises."""

from microtome.models import TINY_FAMILIES, Model, selfcheck, tiny, tiny_tokenizer

__all__ = ["TINY_FAMILIES", "check_model", "tiny", "tiny_tokenizer"]


def check_model(model: Model) -> None:
    """Raise `SelfCheckFailed` unless the model's sites mean what they say, in every respect that `microtome check` looks at."""
    selfcheck(model).raise_if_failed()
