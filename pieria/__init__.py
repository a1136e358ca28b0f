"""Train, sample, compare, audit and explain every family of generative model, on your own data and machine."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pieria.comparison import compare
    from pieria.run import Run, fit, import_model, load, mix

__all__ = ["Run", "__version__", "compare", "fit", "import_model", "load", "mix"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes a second to import; listing families and asking for help must not wait for it
    home = {"compare": "pieria.comparison"} | dict.fromkeys(("Run", "fit", "import_model", "load", "mix"), "pieria.run")
    if name in home:
        return getattr(importlib.import_module(home[name]), name)
    raise AttributeError(f"module 'pieria' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
