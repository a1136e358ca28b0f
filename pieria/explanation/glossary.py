"""The words of the field: each in two sentences, with the symbol in the code that *is* it. No torch."""

import ast
import textwrap
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Term:
    """A word, what it means, and the ``module:symbol`` that is it."""

    name: str
    meaning: str
    symbol: str
    kind: str

    def place(self) -> str:
        """``file:line`` of the symbol."""
        module, _, symbol = self.symbol.partition(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        return f"{path.relative_to(ROOT)}:{line_of(path, symbol)}"

    def to_json(self) -> dict[str, Any]:
        """The term as plain values."""
        return {"term": self.name, "meaning": self.meaning, "symbol": self.symbol, "place": self.place()}

    def text(self) -> str:
        """The term for a terminal."""
        meaning = textwrap.fill(self.meaning, 100, initial_indent="  ", subsequent_indent="  ")
        return f"{self.name}\n\n{meaning}\n\n  In the code: {self.symbol.replace(':', '.')}  ({self.place()})"


@lru_cache
def line_of(path: Path, symbol: str) -> int:
    """The line where a (dotted) symbol is defined in a file; `LookupError` if it is not."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    line = 0
    for part in symbol.split("."):
        for node in body:
            names = {getattr(node, "name", None)}
            if isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            if part in names:
                line, body = node.lineno, getattr(node, "body", [])
                break
        else:
            raise LookupError(f"{path} does not define {symbol}")
    return line


def _read() -> tuple[Term, ...]:
    entries = tomllib.loads((Path(__file__).parent / "glossary.toml").read_text(encoding="utf-8"))["term"]
    return tuple(Term(**{**entry, "meaning": " ".join(entry["meaning"].split())}) for entry in entries)


TERMS = _read()


def find(name: str) -> Term | None:
    """The term of this name, ignoring case, hyphens and a plural s; None if there is none."""
    wanted = _plain(name)
    return next((term for term in TERMS if _plain(term.name) == wanted), None)


def _plain(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ").strip().removesuffix("s")


@dataclass(frozen=True)
class Overview:
    """All terms at a glance."""

    def to_json(self) -> list[dict[str, Any]]:
        """Every term as plain values."""
        return [term.to_json() for term in TERMS]

    def text(self) -> str:
        """The terms, grouped, for a terminal."""
        lines = ["pieria explain FAMILY | RUN | TERM", ""]
        for kind in dict.fromkeys(term.kind for term in TERMS):
            lines.append(f"  {kind}: {', '.join(term.name for term in TERMS if term.kind == kind)}")
        return "\n".join([*lines, "", "The families: 'pieria models'."])


def overview() -> Overview:
    """What can be asked."""
    return Overview()
