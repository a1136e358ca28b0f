"""Train, sample, compare, audit and explain every family of generative model, on your own data and machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pieria.run import Run, fit, load

__all__ = ["Run", "__version__", "fit", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes a second to import; listing families and asking for help must not wait for it
    if name in {"Run", "fit", "load"}:
        from pieria import run

        return getattr(run, name)
    raise AttributeError(f"module 'pieria' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
