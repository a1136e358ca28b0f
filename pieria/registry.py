"""Which families there are, and what each says of itself, read from their source without importing it.

A family is a file in ``pieria/models/`` that ends with ``MODEL = …``, a file anywhere (``--model ./mine.py``), or an
entry point of the group ``pieria.models``. Importing happens in `find` alone, and an import error is raised whole.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pieria.errors import DataError, unknown

if TYPE_CHECKING:
    from pieria.models.contract import Model

HOME = Path(__file__).parent / "models"
GROUP = "pieria.models"
ABILITY_OF = {
    "log_prob": "scores",
    "step": "predicts",
    "decode": "decodes",
    "encode": "encodes",
    "fill": "fills",
    "translate": "translates",
    "embed": "embeds",
    "tell": "discriminates",
    "states": "hides",
    "trace": "explains",
}
LEARNING_OF = {"estimate": "estimates", "phases": "trains", "stages": "learns"}
# a text in three quotes; or a function, on all lines that are indented below its first one or close its brackets
FUNCTION = re.compile(
    r'(?s:""".*?"""|\'\'\'.*?\'\'\')|^(?P<indent> *)(?P<head>(?:async )?def \w+)\(.*(?:\n(?:(?P=indent)[ )].*| *)$)*', re.M
)


@dataclass(frozen=True)
class Setting:
    """One hyperparameter as its source states it, on this line of this file."""

    name: str
    type: str
    default: str
    description: str
    line: int
    path: Path


@dataclass(frozen=True)
class Phase:
    """One move of a family's training game as its source states it, on this line of this file."""

    name: str
    loss: str
    line: int
    path: Path


@dataclass(frozen=True)
class Kind:
    """What a family is of some of its forms alone: a class of its own beside the family's, built in its stead.

    Attributes:
        forms: of which.
        sampling: the options of drawing, where they are others.
        holds_data: its weights contain training examples.
    """

    forms: tuple[str, ...]
    sampling: tuple[Setting, ...]
    holds_data: bool


@dataclass(frozen=True)
class Family:
    """What a family's source says of it; ``kinds`` are those of its forms of which something else is true."""

    name: str
    path: Path
    line: int
    summary: str
    idea: str
    forms: tuple[str, ...]
    conditions: tuple[str, ...]
    abilities: tuple[str, ...]
    learning: str
    likelihood: str
    presets: dict[str, dict[str, Any]]
    settings: tuple[Setting, ...]
    sampling: tuple[Setting, ...]
    paper: str
    holds_data: bool
    requires_condition: bool
    kinds: tuple[Kind, ...] = ()

    @property
    def holds_data_of(self) -> tuple[str, ...]:
        """The forms of which its weights contain training examples."""
        if self.holds_data:
            return self.forms
        return tuple(sorted({form for kind in self.kinds if kind.holds_data for form in kind.forms}))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The moves of the training game, in order; nothing for a family that is not learned by gradient."""
        methods: dict[str, tuple[ast.FunctionDef, Path]] = {}
        for stripped, path in _lineage(_at(self.line, self.path), self.path):
            for node in _at(stripped.lineno, path).body:
                if isinstance(node, ast.FunctionDef):
                    methods[node.name] = node, path
        return _phases(methods)


def _sources() -> dict[str, Path]:
    """Name to file of every family that is installed; reads text only."""
    found = {path.stem: path for path in sorted(HOME.glob("*.py")) if "\nMODEL = " in path.read_text(encoding="utf-8")}
    for point in importlib.metadata.entry_points(group=GROUP):
        module = point.value.partition(":")[0]
        origin = _origin(module)
        if origin is not None:
            found.setdefault(point.name, origin)
    return found


def _origin(module: str) -> Path | None:
    # find_spec would import the parent packages, so the file is looked for on the path by hand
    for root in (*map(Path, sys.path), HOME.parent.parent):
        for candidate in (root / (module.replace(".", "/") + ".py"), root / module.replace(".", "/") / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _parsed(path: Path) -> ast.Module:
    """The syntax tree of a file without what its functions do; a file that has not changed is parsed once."""
    return _tree(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _tree(path: Path, changed: int) -> ast.Module:
    del changed  # part of the key
    whole = path.read_text(encoding="utf-8")
    try:
        return ast.parse(FUNCTION.sub(_emptied, whole))  # an eighth of the time, and listing families is mostly this
    except SyntaxError:
        return ast.parse(whole)  # as it is, or to say what is wrong with it


def _emptied(found: re.Match[str]) -> str:
    """A function without its body, on as many lines."""
    text = found[0]
    if found["head"] is None or text.count('"""') % 2 or text.count("'''") % 2:  # its lines are not all of it
        return text
    return f"{found['indent']}{found['head']}(): ..." + "\n" * text.count("\n")


def names() -> dict[str, str]:
    """Every family with its one-line summary, importing none of them."""
    return {name: _summary(ast.get_docstring(_parsed(path)) or "") for name, path in sorted(_sources().items())}


def source_of(name: str) -> Path:
    """The file of a family, by name or by path.

    Raises `UsageError` (with the nearest names) for an unknown name, `DataError` for a file without a family.
    """
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise DataError(f"{name} does not exist", "a Python file that ends with MODEL = YourFamily")
        return path
    sources = _sources()
    if name not in sources:
        raise unknown("model", name, sources, "A file of your own works by path: --model ./mine.py")
    return sources[name]


@lru_cache
def _imported(path: Path) -> "type[Model]":
    if path.parent == HOME:
        module = importlib.import_module(f"pieria.models.{path.stem}")
    else:
        name = f"pieria_family_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    if not hasattr(module, "MODEL"):
        raise DataError(f"{path} defines no family", "a last line such as MODEL = YourFamily", "Add it")
    family: type[Model] = module.MODEL
    return family


def find(name: str) -> "type[Model]":
    """The family's class, imported; ``name`` is a name or a path that ends with ``.py``."""
    return _imported(source_of(name))


def name_of(family: "type[Model]") -> str:
    """The name under which `find` returns this family: its file's name, or the file's path outside the package."""
    file = Path(sys.modules[family.__module__].__file__ or "").resolve()
    if file.parent == HOME.resolve():
        return file.stem
    for name, path in _sources().items():
        if path.resolve() == file:
            return name
    return str(file)


def describe(name: str) -> Family:
    """What the family's source says of it, without importing it."""
    return _described(name, source_of(name))


def families() -> list[Family]:
    """What the source of every family that is installed says of it, looking for them once."""
    return [_described(name, path) for name, path in sorted(_sources().items())]


def _described(name: str, path: Path) -> Family:
    tree = _parsed(path)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    model = next(
        (
            node.value.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Name)
            and any(isinstance(t, ast.Name) and t.id == "MODEL" for t in node.targets)
        ),
        None,
    )
    if model not in classes:
        raise DataError(f"{path} defines no family", "a last line such as MODEL = YourFamily", "Add it")
    body = classes[model]
    said: dict[str, ast.expr] = {}
    methods: set[str] = set()
    for each, _ in _lineage(body, path):
        said |= _assigned(each)
        methods |= {node.name for node in each.body if isinstance(node, ast.FunctionDef)}
    doc = ast.get_docstring(tree) or ""
    return Family(
        name=path.stem if path.parent == HOME or not name.endswith(".py") else name,
        path=path,
        line=body.lineno,
        summary=_summary(doc),
        idea=doc,
        forms=_names_in(said.get("consumes")),
        conditions=_names_in(said.get("conditions")),
        abilities=tuple(ability for method, ability in ABILITY_OF.items() if method in methods),
        learning=next((kind for method, kind in LEARNING_OF.items() if method in methods), ""),
        likelihood=_literal(said.get("likelihood"), "none"),
        presets=_literal(said.get("presets"), {}),
        settings=_settings(_name(said.get("Settings")), path),
        sampling=_settings(_name(said.get("Sampling")), path),
        paper=_literal(said.get("paper"), ""),
        holds_data=_literal(said.get("holds_data"), False),
        requires_condition=_literal(said.get("requires_condition"), False),
        kinds=tuple(_kinds(model, classes, path)),
    )


def _lineage(body: ast.ClassDef, path: Path) -> list[tuple[ast.ClassDef, Path]]:
    """A family's class after those that it builds on, each with the file that defines it; what comes later wins."""
    found = []
    for base in body.bases:
        defined = _class(_name(base), path) if _name(base) != "Model" else None
        found += [] if defined is None else _lineage(*defined)
    return [*found, (body, path)]


def _at(line: int, path: Path) -> ast.ClassDef:
    """The class on this line of a file, with all that its functions do."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.lineno == line)


def _kinds(model: str, classes: dict[str, ast.ClassDef], path: Path) -> Iterator[Kind]:
    """The classes of a file that stand in for the family's for forms that they name in a ``consumes`` of their own."""
    own = _assigned(classes[model])
    for body in classes.values():
        said = _assigned(body)
        if model in [_name(base) for base in body.bases] and "consumes" in said:
            options = _name(said.get("Sampling"))
            sampling = _settings(options, path) if options not in ("", _name(own.get("Sampling"))) else ()
            yield Kind(_names_in(said["consumes"]), sampling, _literal(said.get("holds_data", own.get("holds_data")), False))


def _summary(doc: str) -> str:
    return " ".join(doc.strip().partition("\n\n")[0].split())


def _assigned(body: ast.ClassDef) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in body.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _name(node: ast.expr | None) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _names_in(node: ast.expr | None) -> tuple[str, ...]:
    """``frozenset({Grid, Row})`` as ("grid", "row")."""
    if node is None:
        return ()
    return tuple(sorted(n.id.lower() for n in ast.walk(node) if isinstance(n, ast.Name) and n.id != "frozenset"))


def _literal(node: ast.expr | None, default: Any) -> Any:
    return default if node is None else ast.literal_eval(node)


def _class(name: str, path: Path) -> tuple[ast.ClassDef, Path] | None:
    """A class of the file at ``path``, or one that it imports from elsewhere in Pieria; with the file that defines it."""
    for node in _parsed(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, path
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("pieria."):
            original = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)
            origin = _origin(node.module or "") if original is not None else None
            if original is not None and origin is not None:
                return _class(original, origin)
    return None


def _settings(name: str, path: Path) -> tuple[Setting, ...]:
    """The fields of the settings class that is called ``name`` at ``path``, after those of its bases."""
    defined = _class(name, path)
    if defined is None:
        return ()
    body, path = defined
    found = [setting for base in body.bases for setting in _settings(_name(base), path)]
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call):
            given = {k.arg: k.value for k in node.value.keywords}
            default = ast.unparse(node.value.args[0]) if node.value.args else "required"
            found.append(
                Setting(
                    node.target.id,
                    ast.unparse(node.annotation),
                    default,
                    _literal(given.get("description"), ""),
                    node.lineno,
                    path,
                )
            )
    return tuple({setting.name: setting for setting in found}.values())  # one that is declared anew keeps its place


def _phases(methods: dict[str, tuple[ast.FunctionDef, Path]]) -> tuple[Phase, ...]:
    """Each ``Phase("name", "group", self.loss_method)`` in ``phases``, with the first line of the loss's docstring."""
    if "phases" not in methods:
        return ()
    body, home = methods["phases"]
    found = []
    for node in ast.walk(body):
        if isinstance(node, ast.Call) and _name(node.func) == "Phase" and len(node.args) >= 3:
            loss = node.args[2]
            method, path = methods.get(loss.attr, (None, home)) if isinstance(loss, ast.Attribute) else (None, home)
            doc = ast.get_docstring(method) if method is not None else None
            line = method.lineno if method is not None else node.lineno
            found.append(Phase(ast.literal_eval(node.args[0]), _summary(doc or ""), line, path))
    return tuple(found)
