"""One question to a trained model, whatever its family and form: how good is it, compared with what?"""

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pieria.data.batch import mask_after_end
from pieria.data.examples import Examples, StreamExamples
from pieria.errors import DataError, FormError, UsageError, unknown
from pieria.evaluation import curves, extractors, grids, pairs, rows, targets, tokens, translations
from pieria.evaluation.baselines import Baseline, cheap
from pieria.evaluation.classifier import two_sample
from pieria.evaluation.comparison import Comparison, Drawn, as_learned, draw, held_out, random_items
from pieria.evaluation.replies import draw as draw_replies
from pieria.evaluation.replies import replies_of
from pieria.evaluation.scorecard import LIKELIHOODS, Figure, Scorecard, plain
from pieria.evaluation.similarity import in_words, likeness, novelty
from pieria.forms import Curve, Form, Grid, Row, Tokens
from pieria.models.contract import (
    Discriminates,
    Learns,
    Model,
    Predicts,
    Scores,
    Trains,
    Translates,
    device_of,
    learned_numbers,
)

if TYPE_CHECKING:
    from pieria.modalities.opening import Dataset

# a likelihood is of the whole split; of one that would take hours, of its beginning, and its note says so
MOST_SYMBOLS = 5_000_000
MOST_MASKED = 20_000  # of a pseudo-likelihood, which reads the whole text once for each of its symbols
LEARNED_FROM = (
    "These figures are taken on the training data themselves: they say how well it fits them, and nothing about new data "
    "or copies."
)


def evaluate(
    model: Model,
    dataset: "Dataset",
    *,
    split: str = "test",
    count: int | None = None,
    seed: int = 0,
    cost: Mapping[str, Any] = {},
    features: str | None = None,
) -> Scorecard:
    """Every figure that a model can be given on a split of a data set, beside the cheap baseline and beside real data.

    Args:
        model: trained, on any form.
        dataset: what it was trained on; its training part is read for novelty, floors and the baseline.
        split: the part to compare with. Against "train", which it learned from, no figure says anything about new data;
            the words say so.
        count: how many samples to draw; without it 64 to 500 texts, 1,000 pictures, 2,000 rows, 200 curves.
        seed: of the samples and of every random choice.
        cost: "seconds" and "joules" of the training, and "source", how energy was told, where known.
        features: of pictures: the network in whose features sets of them are compared, "pieria" (the small one that comes
            with the package) or "inception", or the path of Inception's weights (see `extractors.find`).

    Raises `UsageError` for an unknown split or network, `DataError` for a split that the data are too few for, `FormError`
    for data of another form than the model learned.
    """
    if split not in ("validation", "test", "train"):
        raise unknown("split", split, ("validation", "test", "train"))
    if features is not None and not isinstance(model.form, Grid):
        raise UsageError(f"features={features} for {model.form.kind}", "a model of pictures", "Leave features out")
    judge = None if features is None else extractors.find(features)
    if isinstance(model, Discriminates):
        return targets.scorecard(model, dataset, split=split, seed=seed, cost=dict(cost))
    training, held = (as_learned(model, dataset.examples(part)) for part in ("train", split))
    form = model.form
    if type(held.form) is not type(form):
        raise FormError(
            f"the data are {held.form.kind}, the model learned {form.kind}",
            "data of the same form",
            "Open the data with the run's own modality",
        )
    wanted = count if count is not None else default_count(form, held)
    if wanted < 8:
        raise UsageError(f"--count {wanted}", "at least 8 samples", "Ask for more")
    comparison, drawn = compare_sets(model, training, held, wanted, seed, judge=judge)
    like, new = likeness(comparison, split), novelty(comparison, split)
    # a copy cannot be told where the real items beside it are the training data themselves
    words = in_words(comparison, like, new) if split != "train" else [LEARNED_FROM]
    card = Scorecard([like, *new], words, neural=isinstance(model, Trains | Learns))
    baseline = Baseline("the last value or the mean", None)
    if not isinstance(form, Curve) and isinstance(model, Scores) and model.likelihood != "none":
        # the same data read with other settings are other items, even where their form is the same
        read_as = f"{dataset.fingerprint} {dataset.modality.settings!r}" if dataset.fingerprint else ""
        baseline = cheap(form, training, read_as, model.likelihood)
    own, details = _own_figures(model, dataset, training, held, comparison, baseline, split, seed)
    answered, said = pairs.figures(model, dataset, held, split)
    card.words += said
    if isinstance(model, Translates):
        baseline = Baseline(translations.BASELINE, None)
        own = translations.figures(model, held, own, split, seed)
    elif isinstance(comparison, grids.GridComparison):
        card.words += grids.in_words(own)
    card.figures += [*own, *answered, two_sample(comparison, split), *_costs(model, comparison, drawn, cost, seed)]
    _leave_out_bare(card, baseline)
    card.words += _against_baseline(card, baseline)
    if model.condition is not None and baseline.name and not isinstance(model, Translates):
        card.words.append(f"The model is told each item's {model.condition.kind}; {baseline.name} is not.")
    card.about = {
        "data": dataset.name,
        "split": split,
        "form": form.kind,
        "family": type(model).__name__,
        "seed": seed,
        "baseline": baseline.name or None,
        **details,
    }
    return card


def default_count(form: Form, held: Examples) -> int:
    """How many samples a scorecard takes, so that all forms take some seconds."""
    if isinstance(form, Tokens):
        most = int(np.clip(32_000 // form.length, 64, 500))
        # answers to the same prompt are alike: each prompt is asked once
        return min(most, max(8, len(held))) if isinstance(held.condition, Tokens) else most
    if isinstance(form, Curve):
        return 200
    if isinstance(held.condition, Grid):  # each picture becomes another one once
        return int(np.clip(len(held), 8, 1_000))
    large = isinstance(form, Grid) and form.height * form.width > 64 * 64
    most = 2_000 if isinstance(form, Row) else 300 if large else 1_000
    return int(np.clip(len(held), 100, most))


def compare_sets(
    model: Model,
    training: Examples,
    held: Examples,
    count: int,
    seed: int,
    samples: Tensor | None = None,
    judge: extractors.Extractor | None = None,
) -> tuple[Comparison, Drawn]:
    """Samples, held-out and training items of one form, ready to be compared; and what drawing the samples took.

    ``samples`` stand in for the model's own where they are given. A model with a condition draws under the conditions
    of the held-out items, taken in turn. ``judge`` looks at pictures; the shipped network where it is not given.
    """
    form = model.form
    if isinstance(form, Curve):
        batch = curves.whole(held)
        begun = perf_counter()
        made = curves.draw_functions(model, batch, 0, count, seed) if samples is None else samples
        drawn = Drawn(made, perf_counter() - begun)
        # curves may differ in length: the first of each split stands for it, and its windows are many
        real, seen = (curves.real_points(b, 0)[None] for b in (batch, curves.whole(training)))
        if min(real.shape[1], seen.shape[1]) < curves.FEWEST:
            raise DataError(
                f"{real.shape[1]} held-out and {seen.shape[1]} training points of a curve to compare",
                f"at least {curves.FEWEST} of each",
                "Measure more points, or hold out another share of them with --set test=…",
            )
        return curves.CurveComparison(training, real, drawn.x, seen, seed), drawn
    led, led_training = replies_of(held), replies_of(training)
    if led is not None and led_training is not None and model.condition is None and isinstance(model, Predicts):
        # where only replies are learned, they are compared: those of the model and the real ones, to the same beginnings
        if samples is None:
            drawn, real = draw_replies(model, led, count, seed)
        else:
            drawn, real = Drawn(samples, 0.0), held_out(led.examples, count).x
        seen = random_items(led_training.examples, len(drawn.x), seed).x
        return tokens.TokensComparison(led_training.examples, real, drawn.x, seen, seed), drawn
    first = held_out(held, count)
    condition = None
    if model.condition is not None:
        if first.condition is None:
            raise UsageError(
                "the model draws under a condition, and these data have none",
                f"data with a {model.condition.kind} for each item",
                "Evaluate it on the data that it was fitted on",
            )
        condition = first.condition[torch.arange(count) % len(first.condition)]
    drawn = draw(model, count, seed, condition) if samples is None else Drawn(samples, 0.0)
    # windows of a stream are compared with windows as long as the samples
    length = drawn.x.shape[1] if isinstance(held, StreamExamples) else None
    real = held_out(held, count, length).x
    seen = random_items(training, len(drawn.x), seed, length).x
    if isinstance(form, Grid):
        return grids.GridComparison(training, real, drawn.x, seen, seed, judge, device_of(model)), drawn
    kinds: dict[type[Form], type[Comparison]] = {Tokens: tokens.TokensComparison, Row: rows.RowComparison}
    return kinds[type(form)](training, real, drawn.x, seen, seed), drawn


def _own_figures(
    model: Model,
    dataset: "Dataset",
    training: Examples,
    held: Examples,
    comparison: Comparison,
    baseline: Baseline,
    split: str,
    seed: int,
) -> tuple[list[Figure], dict[str, Any]]:
    """The figures that only this form has."""
    if isinstance(comparison, tokens.TokensComparison):
        most = MOST_MASKED if model.likelihood == "pseudo" else MOST_SYMBOLS
        found = tokens.figures(model, held, dataset.modality, baseline.model, split, most)
        return [comparison.run_figure(split), *found], {}
    if isinstance(comparison, grids.GridComparison):
        return [*grids.figures(model, held, baseline.model, split), *comparison.figures(split)], {}
    if isinstance(comparison, rows.RowComparison):
        target = getattr(dataset.modality.settings, "target", None)
        found, columns = comparison.figures(split, target)
        return [*rows.figures(model, held, baseline.model, split), *found], {"columns": columns}
    return curves.figures(model, training, held, split, seed, len(comparison.made)), {}


def _parameters(model: Model) -> Figure:
    """How large it is: parameters, or what stands for them in a family that has none."""
    learned, note = learned_numbers(model)
    return Figure("parameters", float(learned), "numbers", "measure", "lower", note=note)


def _costs(model: Model, comparison: Comparison, drawn: Drawn, cost: Mapping[str, Any], seed: int) -> list[Figure]:
    """What drawing, holding and training the model cost."""
    amount, unit = len(drawn.x), "items/s"
    if isinstance(model.form, Tokens):
        assert isinstance(comparison.form, Tokens)  # of replies it has an end, even where the model's has none
        amount, unit = int(mask_after_end(drawn.x, comparison.form.end).sum()), "symbols/s"
    found = [
        Figure(
            "sampling speed",
            amount / max(drawn.seconds, 1e-9),
            unit,
            "measure",
            "higher",
            "",
            len(comparison.made),
            seed,
            note="on this machine, in batches of 250",
        ),
        _parameters(model),
    ]
    if cost.get("seconds") is not None:
        found.append(Figure("training time", float(cost["seconds"]), "s", "measure", "lower"))
    if cost.get("joules") is not None:
        how = f"energy: {cost.get('source', 'source not stated')}"
        found.append(Figure("training energy", float(cost["joules"]), "J", "measure", "lower", note=how))
    return found


def _leave_out_bare(card: Scorecard, baseline: Baseline) -> None:
    """A neural likelihood without its baseline says nothing: it is left out, and the words say so."""
    if not card.neural:
        return
    bare = [figure for figure in card.figures if figure.kind in LIKELIHOODS and figure.baseline is None]
    if bare:
        card.figures = [figure for figure in card.figures if figure not in bare]
        card.words.append(
            f"Left out, since no baseline could be fitted to stand beside: {', '.join(figure.name for figure in bare)} "
            f"({baseline.reason or 'no baseline for this form'})."
        )


def _against_baseline(card: Scorecard, baseline: Baseline) -> list[str]:
    """Who wins, in plain words; of a bound only what follows from it."""
    figure = next((f for f in card.figures if f.kind in LIKELIHOODS and f.baseline is not None), None)
    if figure is None:
        figure = next((f for f in card.figures if f.baseline is not None), None)
    if figure is None or figure.value is None or figure.baseline is None:
        return []
    name = baseline.name or "the baseline"
    own, other = f"{plain(figure.value)} {figure.unit}", plain(figure.baseline)
    if abs(figure.value - figure.baseline) <= 1e-9 * max(1.0, abs(figure.baseline)):
        return [f"Baseline: as good as {name} ({figure.name}: {own})."]
    if figure.value < figure.baseline:
        also = ", although its figure is only a bound" if figure.kind == "bound" else ""
        return [f"Baseline: it beats {name}, {own} against {other} ({figure.name}, lower is better){also}."]
    if figure.kind == "bound":
        return [
            f"Baseline: {name} has {other}; of this model we only know that it is at most {own} ({figure.name}). It is not "
            "shown to beat the baseline."
        ]
    if name == translations.BASELINE:
        return [f"Baseline: {name} wins: {other} against {own} ({figure.name}, lower is better): train it for longer."]
    who = "the network loses" if card.neural else "it loses"
    return [
        f"Baseline: {name} wins: {other} against {own} ({figure.name}, lower is better). On these data, with this "
        f"training, {who} to a baseline that takes seconds to fit."
    ]
