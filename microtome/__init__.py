"""microtome: the interpretability workbench for language models.

Begin with `microtome demo` in a terminal, or here with `microtome.models.load("demo")`. Every room is its own import
(`from microtome.features import FeatureIndex`); importing the package itself loads neither torch nor transformers.
"""

from microtome.errors import MicrotomeError

__version__ = "0.1.0"
__all__ = ["MicrotomeError", "__version__"]
