"""How each nonlinearity is trained, one file each: the active places of a batch, and the gradient from there.

`rule_of(nonlinearity, build=…)` gives the rule. To train a nonlinearity of your own, write a `Rule` and register how it is made
with `RULES`, under the name of the nonlinearity.
"""

from microtome.dictionaries import NONLINEARITIES, Nonlinearity
from microtome.training.config import Build
from microtome.training.rules import batchtopk as batchtopk  # they register their rules
from microtome.training.rules import gated as gated
from microtome.training.rules import jumprelu as jumprelu
from microtome.training.rules import relu as relu
from microtome.training.rules import topk as topk
from microtome.training.rules.rule import RULES, Active, Back, Encoder, Gradient, Rule, RuleFactory

__all__ = ["RULES", "Active", "Back", "Encoder", "Gradient", "Rule", "RuleFactory", "rule_of"]


def rule_of(nonlinearity: Nonlinearity, *, build: Build) -> Rule:
    """The rule that trains a nonlinearity; one without a rule raises `NotRegistered`."""
    name = next(name for name in NONLINEARITIES if NONLINEARITIES.get(name) is type(nonlinearity))
    return RULES.get(name)(nonlinearity, build)
