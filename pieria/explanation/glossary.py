"""The words of the field: each in two sentences, with the symbol in the code that *is* it. No torch."""

import ast
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
        return f"{self.name}\n\n  {self.meaning}\n\n  In the code: {self.symbol.replace(':', '.')}  ({self.place()})"


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


_NOUNS, _VERBS, _LIKELIHOOD, _DRAWING, _JUDGING = "nouns", "verbs", "likelihood", "drawing", "judging"

TERMS: tuple[Term, ...] = (
    Term("generative model", "A distribution over things of one kind, learned from examples, that new things can be drawn "
         "from. A discriminative model says what something is; a generative one can make it.",
         "pieria.models.contract:Model", _NOUNS),
    Term("training data", "The examples that a model learns from. Here they are split once, and only the training part is "
         "learned from: validation decides when to stop, and the test part is looked at for the final figure alone.",
         "pieria.data.examples:Examples", _NOUNS),
    Term("artifact", "What a person holds: a text, a picture, a row of a table, a curve. A modality turns it into numbers and back.",
         "pieria.modalities.contract:Modality", _NOUNS),
    Term("form", "The shape in which a model meets the data; there are four: symbols in order, grids, rows and curves. "
         "Any family that consumes a form works with any modality that offers it.", "pieria.forms:Form", _NOUNS),
    Term("token", "One symbol of a finite vocabulary: a character, a piece of a word, a word. A text becomes a row of such numbers.",
         "pieria.forms:Tokens", _NOUNS),
    Term("latent space", "The space of the short codes from which some models make each item; neighbouring codes give similar "
         "items. One can draw a code at random, walk between two, or look for the code of a given item.",
         "pieria.models.contract:Decodes", _NOUNS),
    Term("prior", "What is assumed about a code (or a function) before any data are seen: usually a plain bell curve. "
         "Drawing from it and decoding what was drawn gives a new item.", "pieria.models.contract:Decodes.prior", _NOUNS),
    Term("loss", "The number that training makes smaller: how badly the model does on a few examples. Each move of a training "
         "game has its own.", "pieria.models.contract:Losses", _NOUNS),
    Term("phase", "One move of the training game: whose parameters step, on which loss, and how often. A VAE is a game with one "
         "phase, a GAN one with two.", "pieria.models.contract:Phase", _NOUNS),
    Term("hyperparameters", "What is chosen before learning, and not learned: sizes, rates, penalties. Each is described and "
         "bounded where it is declared.", "pieria.settings:Settings", _NOUNS),
    Term("condition", "What one asks for beside chance: a label, a caption, a source picture. A conditional model learns a "
         "distribution for each.", "pieria.forms:Label", _NOUNS),
    Term("fit", "To learn a model from the training part of the data, within a budget of steps, epochs or time. It leaves a run "
         "directory behind.", "pieria.run:fit", _VERBS),
    Term("sample", "To draw new items from a model. Item number i of a sample depends on the seed and on i alone.",
         "pieria.models.contract:Model.sample", _VERBS),
    Term("score", "To ask a model how probable a given item is. The least probable items of a data set are its anomalies.",
         "pieria.models.contract:Scores.log_prob", _VERBS),
    Term("evaluate", "To hold a model against the held-out part of the data, figure by figure, each beside its baseline and floor.",
         "pieria.evaluation:evaluate", _VERBS),
    Term("audit", "To ask whether what a model makes may be published: does it copy, does it leak, whom does it leave out, what "
         "did it cost?", "pieria.audit:audit", _VERBS),
    Term("epoch", "One pass over the training data, in a shuffled order that depends on the seed and the epoch alone.",
         "pieria.data.order:Order", _VERBS),
    Term("checkpoint", "All that is needed to go on with a training run exactly where it stopped, to the same bits.",
         "pieria.training.workspace:Workspace", _VERBS),
    Term("likelihood", "How probable a model finds data that it has not seen: the plainest measure of what it has learned. It may "
         "be exact, a bound, an estimate, or missing, and figures of different kinds are never ranked together.",
         "pieria.models.contract:Likelihood", _LIKELIHOOD),
    Term("nats", "The unit of surprise with natural logarithms: an event of probability p surprises by -ln p nats. Divide by "
         "ln 2 = 0.693 for bits.", "pieria.models.contract:ScoresSymbols.symbol_log_prob", _LIKELIHOOD),
    Term("bits per character", "The surprise of a text in bits, divided by its characters, so that models with different "
         "vocabularies can be compared. English prose needs about 1 to 2 by good models.",
         "pieria.models.contract:ScoresSymbols", _LIKELIHOOD),
    Term("perplexity", "The exponential of the nats per symbol: among how many equally likely symbols the model hesitates on "
         "average. It means nothing without naming the symbols.", "pieria.models.contract:ScoresSymbols", _LIKELIHOOD),
    Term("bits per dimension", "The surprise of a picture in bits, divided by its numbers. Eight means no better than noise for "
         "8-bit pictures.", "pieria.forms:Grid", _LIKELIHOOD),
    Term("bound", "A likelihood that is certainly not above the true one: what a VAE can compute. A better bound may mean a better "
         "model or a tighter bound.", "pieria.models.contract:Likelihood", _LIKELIHOOD),
    Term("noise", "Where all chance comes from: named random numbers that depend on the seed, the item and the step alone. The same "
         "noise gives the same artifact.", "pieria.noise:Noise", _DRAWING),
    Term("seed", "The number from which all noise of a run or a sample follows. The same seed gives the same result.",
         "pieria.noise:ItemNoise", _DRAWING),
    Term("temperature", "How bold drawing is: below 1 the probable becomes more probable, 0 always takes the most probable, above "
         "1 flattens the odds. Only 1 draws from the model itself.", "pieria.sampling.decoding:Decoding", _DRAWING),
    Term("top-k", "Drawing only from the k most probable symbols, so that unlikely slips of the model are never chosen. top-p and "
         "min-p choose the number of candidates by their probability instead.", "pieria.sampling.decoding:Decoding", _DRAWING),
    Term("likeness", "The distance of a model's samples to held-out data. It stands beside its floor: the distance of real data to "
         "other real data.", "pieria.evaluation:evaluate", _JUDGING),
    Term("novelty", "The share of samples that lie nearer to a training item than held-out items do. Far more than held-out data "
         "themselves show means that the model copies.", "pieria.evaluation:evaluate", _JUDGING),
    Term("baseline", "The cheap model that every neural score stands beside: an n-gram for symbols, a mixture for grids, "
         "independent columns for rows. Who does not beat it has learned little.", "pieria.evaluation:evaluate", _JUDGING),
    Term("scorecard", "All figures of a model with unit, direction, reference set, count and seed, opened by likeness and novelty.",
         "pieria.evaluation.scorecard:Scorecard", _JUDGING),
    Term("overfitting", "Doing better on the training data than on data never seen, because their accidents were learned too. "
         "Early stopping ends training where held-out data stop improving.", "pieria.training.plan:Plan", _JUDGING),
    Term("mode collapse", "A generator that makes only a few kinds of thing, though the data hold many. Recall and coverage show "
         "it; a look at many samples does too.", "pieria.models.gan:MODEL", _JUDGING),
)  # fmt: skip


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
