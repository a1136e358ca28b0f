"""Covariance functions from a readable expression: ``"rbf(length=50) + 4*rbf*periodic(period=1) + noise"``.

A sum of products. Every summand has a variance, learned; a number in front is where it starts, in the outputs' own unit
squared. An argument is a starting value, ``fixed(value)``, or ``(start, lowest, highest)``. Values may be computed from
what the data show: ``span`` (of the inputs), ``gap`` (median spacing), ``season`` (dominant period).

    rbf            exp(-r²/2ℓ²)                 ``length``
    matern12/32/52 the Matérn family            ``length``
    rational       (1 + r²/2αℓ²)^-α             ``length``, ``alpha``
    periodic       exp(-2 sin²(πr/p)/ℓ²)        ``length``, ``period``
    linear         u·v                          (u, v: the inputs, centred and divided by their span)
    polynomial     (u·v + c)^degree             ``offset``, ``degree`` (a whole number, not learned)
    constant       1
    noise          1 where the point is the same: the error of measurement

The expression is parsed with `ast` and never evaluated as Python. The functions themselves are GPyTorch's.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pieria.errors import UsageError, unknown

try:
    import gpytorch
except ImportError as error:  # an optional dependency
    raise UsageError("gpytorch is not installed", "GPyTorch's covariance functions", "pip install 'pieria[gp]'") from error

# name: (GPyTorch's class, extra arguments, our argument -> its raw parameter)
FUNCTIONS: dict[str, tuple[type[gpytorch.kernels.Kernel], dict[str, float], dict[str, str]]] = {
    "rbf": (gpytorch.kernels.RBFKernel, {}, {"length": "raw_lengthscale"}),
    "matern12": (gpytorch.kernels.MaternKernel, {"nu": 0.5}, {"length": "raw_lengthscale"}),
    "matern32": (gpytorch.kernels.MaternKernel, {"nu": 1.5}, {"length": "raw_lengthscale"}),
    "matern52": (gpytorch.kernels.MaternKernel, {"nu": 2.5}, {"length": "raw_lengthscale"}),
    "rational": (gpytorch.kernels.RQKernel, {}, {"length": "raw_lengthscale", "alpha": "raw_alpha"}),
    "periodic": (gpytorch.kernels.PeriodicKernel, {}, {"length": "raw_lengthscale", "period": "raw_period_length"}),
    "linear": (gpytorch.kernels.LinearKernel, {}, {}),
    "polynomial": (gpytorch.kernels.PolynomialKernel, {}, {"offset": "raw_offset"}),
    "constant": (gpytorch.kernels.ConstantKernel, {}, {}),
}
NAMES = (*FUNCTIONS, "noise")
# where an argument starts when the expression does not say, and how far learning may take it
STARTS = {"length": "span/10", "alpha": "1", "period": "season", "offset": "1"}
LIMITS = {
    "length": ("gap/20", "span*1000"),
    "alpha": ("1e-3", "1e4"),
    "period": ("start/1.5", "start*1.5"),  # the likelihood has a maximum at every overtone: stay near the start
    "offset": ("1e-3", "1e3"),
}
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
FACTS = ("span", "gap", "season")


@dataclass(frozen=True)
class Value:
    """Where a hyperparameter starts and how far it may go, as expressions over `FACTS`."""

    start: ast.expr
    low: ast.expr | None = None
    high: ast.expr | None = None
    fixed: bool = False


def _wrong(said: str, text: str) -> UsageError:
    return UsageError(
        f"kernel {text!r}: {said}", f"sums and products of {', '.join(NAMES)}", "For example: rbf*periodic(period=1) + noise"
    )


def number(node: ast.expr, facts: Mapping[str, float], text: str) -> float:
    """The value of an arithmetic expression over numbers and ``facts``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id not in facts:
            raise unknown("value in a kernel", node.id, facts)
        return facts[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -number(node.operand, facts, text)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = number(node.left, facts, text), number(node.right, facts, text)
        try:
            value = OPERATORS[type(node.op)](left, right)
            if isinstance(value, float) and math.isfinite(value):
                return value
        except (ZeroDivisionError, OverflowError):
            pass
        raise _wrong(f"{ast.unparse(node)} is not a number", text)
    raise _wrong(f"{ast.unparse(node)} is not a number", text)


def _is_number(node: ast.expr) -> bool:
    # arithmetic over numbers and facts is a value; anything that names a covariance function is not
    return not any((isinstance(n, ast.Name) and n.id not in FACTS) or isinstance(n, ast.Call) for n in ast.walk(node))


def _value(node: ast.expr, text: str) -> Value:
    if isinstance(node, ast.Tuple):
        if len(node.elts) != 3:
            raise _wrong(f"{ast.unparse(node)} has {len(node.elts)} values, not (start, lowest, highest)", text)
        start, low, high = node.elts
        value = Value(start, low, high)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fixed" and len(node.args) == 1:
        value = Value(node.args[0], fixed=True)
    else:
        value = Value(node)
    for part in (value.start, value.low, value.high):
        if part is not None:
            number(part, dict.fromkeys(FACTS, 1.0), text)
    return value


class Part(nn.Module):
    """One covariance function with its learned arguments; every raw parameter is a logarithm."""

    def __init__(self, name: str, arguments: dict[str, Value], degree: int, inputs: int) -> None:
        super().__init__()
        kind, extra, raw = FUNCTIONS[name]
        each = inputs if "length" in raw else None  # one length (and period) an input: automatic relevance determination
        given = {"power": degree} if name == "polynomial" else extra
        self.name, self.raw = name, raw
        self.function = kind(ard_num_dims=each, **given).double()
        for argument in raw.values():
            self.function.register_constraint(argument, gpytorch.constraints.Positive(torch.exp, torch.log))
        if name in ("linear", "constant"):  # their size is the summand's variance
            size = "raw_variance" if name == "linear" else "raw_constant"
            self.function.initialize(**{size.removeprefix("raw_"): 1.0})
            getattr(self.function, size).requires_grad_(False)
        self.arguments = {a: arguments.get(a, Value(ast.parse(STARTS[a], mode="eval").body)) for a in raw}
        for argument, value in self.arguments.items():
            getattr(self.function, raw[argument]).requires_grad_(not value.fixed)

    def forward(self, x1: Tensor, x2: Tensor, unit1: Tensor, unit2: Tensor) -> Tensor:
        """``[n, d]`` and ``[m, d]`` to the covariance ``[n, m]``; ``unit``: centred, and divided by their span."""
        if self.name in ("linear", "polynomial"):
            x1, x2 = unit1, unit2
        same = x2 is x1
        covariance: Tensor = self.function(x1, x1 if same else x2).to_dense()
        return covariance


class Expression(nn.Module):
    """A whole kernel: ``forward`` gives the covariance of the function, ``noise`` the variance of the error."""

    def __init__(self, text: str, inputs: int) -> None:
        super().__init__()
        self.text, self.inputs = text, inputs
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _wrong("it cannot be read", text) from None
        self.parts = nn.ModuleList()
        self.scales: list[Value | None] = []
        self.noise_start: Value | None = None  # in the outputs' own unit; without one, a hundredth of their variance
        self.tree = self._sum(tree, outermost=True)
        if not self.parts:
            raise _wrong("it is nothing but noise", text)
        self.log_scale = nn.Parameter(torch.zeros(len(self.scales), dtype=torch.float64))
        self.log_noise = nn.Parameter(torch.full((), math.log(1e-2), dtype=torch.float64))

    # ---- reading: a tree of ("sum", …), ("product", scale, …) and places in self.parts ----

    def _sum(self, node: ast.expr, outermost: bool = False) -> tuple:
        summands, noises = [], 0
        for part in _flat(node, ast.Add):
            numbers = [f for f in _flat(part, ast.Mult) if _is_number(f)]
            factors = [f for f in _flat(part, ast.Mult) if not _is_number(f)]
            start = None
            if numbers:
                start = Value(_multiplied(numbers))
                number(start.start, dict.fromkeys(FACTS, 1.0), self.text)
            if [ast.unparse(f) for f in factors] == ["noise"]:
                if not outermost or noises:
                    raise _wrong("noise stands once, as a summand of its own", self.text)
                self.noise_start, noises = start, noises + 1
                continue
            self.scales.append(start)
            place = len(self.scales) - 1
            summands.append(("product", place, *[self._factor(f) for f in factors]))
        return ("sum", *summands)

    def _factor(self, node: ast.expr) -> tuple | int:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._sum(node)
        call = node if isinstance(node, ast.Call) else None
        name = call.func if call is not None else node
        if not isinstance(name, ast.Name):
            raise _wrong(f"{ast.unparse(node)} is no covariance function", self.text)
        if name.id == "noise":
            raise _wrong("noise stands once, as a summand of its own", self.text)
        if name.id not in FUNCTIONS:
            raise unknown("covariance function", name.id, NAMES)
        arguments, degree = self._arguments(name.id, call)
        self.parts.append(Part(name.id, arguments, degree, self.inputs))
        return len(self.parts) - 1

    def _arguments(self, name: str, call: ast.Call | None) -> tuple[dict[str, Value], int]:
        known = [*FUNCTIONS[name][2], *(["degree"] if name == "polynomial" else [])]
        given: dict[str, ast.expr] = {}
        if call is not None:
            if len(call.args) > len(known):
                raise _wrong(f"{name} was given {len(call.args)} values", self.text)
            given.update(zip(known, call.args))
            for keyword in call.keywords:
                if keyword.arg is None or keyword.arg not in known:
                    raise unknown(f"argument of {name}", keyword.arg or "**", known)
                given[keyword.arg] = keyword.value
        degree = 2
        if "degree" in given:
            written = number(given.pop("degree"), {}, self.text)
            if written != int(written) or not 1 <= written <= 10:
                raise _wrong(f"degree {written:g} is not a whole number from 1 to 10", self.text)
            degree = int(written)
        return {argument: _value(node, self.text) for argument, node in given.items()}, degree

    # ---- starting: from the expression and from what the data show ----

    def begin(self, facts: Mapping[str, float], variance: float) -> dict[nn.Parameter, tuple[float, float]]:
        """Set every hyperparameter to its start; return the lowest and highest logarithm of each that is learned.

        ``variance`` is that of the outputs in their own unit: inside, outputs are standardised.
        """
        limits: dict[nn.Parameter, tuple[float, float]] = {}
        for part in self.parts:
            assert isinstance(part, Part)
            for argument, value in part.arguments.items():
                raw: nn.Parameter = getattr(part.function, part.raw[argument])
                power = 2.0 if (part.name, argument) == ("periodic", "length") else 1.0  # GPyTorch's length is ℓ²
                start, low, high = self._numbers(value, argument, facts)
                with torch.no_grad():
                    raw.fill_(power * math.log(start))
                if not value.fixed:
                    limits[raw] = (power * math.log(low), power * math.log(high))
        shares = [
            math.log(self._positive(start.start, facts) / variance) if start is not None else -math.log(len(self.scales))
            for start in self.scales
        ]
        noise = 0.01 if self.noise_start is None else self._positive(self.noise_start.start, facts) / variance
        with torch.no_grad():
            self.log_scale.copy_(torch.tensor(shares, dtype=torch.float64))
            self.log_noise.fill_(math.log(noise))
        limits[self.log_scale] = (math.log(1e-8), math.log(1e6))
        limits[self.log_noise] = (math.log(1e-7), math.log(1e2))
        return limits

    def _positive(self, node: ast.expr, facts: Mapping[str, float]) -> float:
        value = number(node, facts, self.text)
        if value <= 0:
            raise _wrong(f"{ast.unparse(node)} = {value:g} is not positive", self.text)
        return value

    def _numbers(self, value: Value, argument: str, facts: Mapping[str, float]) -> tuple[float, float, float]:
        start = self._positive(value.start, facts)
        known = {**facts, "start": start}
        low, high = (number(ast.parse(limit, mode="eval").body, known, self.text) for limit in LIMITS[argument])
        low = self._positive(value.low, facts) if value.low is not None else min(low, start)
        high = self._positive(value.high, facts) if value.high is not None else max(high, start)
        if not low <= start <= high:
            raise _wrong(f"{argument} starts at {start:g}, outside {low:g} to {high:g}", self.text)
        return start, low, high

    # ---- computing ----

    def forward(self, x1: Tensor, x2: Tensor, unit1: Tensor, unit2: Tensor) -> Tensor:
        """The covariance ``[n, m]`` of the standardised function at ``x1`` (``[n, d]``) and ``x2`` (``[m, d]``)."""

        def value(node: tuple | int) -> Tensor:
            if isinstance(node, int):
                covariance: Tensor = self.parts[node](x1, x2, unit1, unit2)
                return covariance
            if node[0] == "sum":
                total = value(node[1])
                for summand in node[2:]:
                    total = total + value(summand)
                return total
            product = self.log_scale[node[1]].exp()
            for factor in node[2:]:
                product = product * value(factor)
            return product if len(node) > 2 else product.expand(len(x1), len(x2))

        return value(self.tree)

    @property
    def noise(self) -> Tensor:
        """The variance of the error of measurement, of standardised outputs."""
        return self.log_noise.exp()

    def learned(self, variance: float) -> str:
        """The expression with what was learned in place of what it started from."""

        def word(node: tuple | int) -> str:
            if isinstance(node, int):
                part = self.parts[node]
                assert isinstance(part, Part)
                said = []
                for argument in part.arguments:
                    root = 0.5 if (part.name, argument) == ("periodic", "length") else 1.0
                    values = (root * getattr(part.function, part.raw[argument]).detach()).exp().flatten().tolist()
                    said.append(f"{argument}={'/'.join(f'{v:.4g}' for v in values)}")
                return part.name + (f"({', '.join(said)})" if said else "")
            if node[0] == "sum":
                written = " + ".join(word(summand) for summand in node[1:])
                return written if node is self.tree else f"({written})"
            return "*".join([f"{float(self.log_scale[node[1]].detach().exp()) * variance:.4g}", *map(word, node[2:])])

        return f"{word(self.tree)} + {float(self.noise.detach()) * variance:.4g}*noise"


def _flat(node: ast.expr, kind: type[ast.operator]) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, kind) and not _is_number(node):
        return [*_flat(node.left, kind), *_flat(node.right, kind)]
    return [node]


def _multiplied(nodes: list[ast.expr]) -> ast.expr:
    product = nodes[0]
    for node in nodes[1:]:
        product = ast.BinOp(product, ast.Mult(), node)
    return product
