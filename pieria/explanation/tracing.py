"""The steps between noise and artifact as frames of a film: four renderers, one a form, for every family.

A frame shows the item as far as it is made, in the modality's own terms, and whatever tensors the step names: odds as
bars, matrices as heat maps, feature maps as pictures.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pieria.explanation.page import Line, chart, escape, paragraphs, picture, table, texts
from pieria.forms import Curve, Form, Grid, Row, Tokens
from pieria.modalities.contract import Modality
from pieria.models.contract import Step

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_FRAMES = 80
MOST_BARS = 8
MOST_READ = 64  # symbols of the past that a frame shows

# what the tensors of a step are called for a reader; others keep the name that the family gave them
TITLES = {
    "odds": "What may come next, and how probable the model finds it",
    "kept": "What the drawing options left of that",
    "by order": "The odds of the drawn symbol, by how much history is looked at",
    "odds by part": "What each part finds probable",
    "weights": "How much each part counts",
    "attention": "Where each head looked to decide (dark: much)",
    "z": "The code: the numbers that the item is made from",
    "features": "Feature maps on the way",
    "raw": "The numbers that the network puts out",
    "score": "What the discriminator says (higher: more like real data)",
    "numbers": "The numbers as they are between the layers",
    "state": "Which hidden state the next symbol comes from, as far as can be told",
    "path": "The hidden path: the state behind each place",
    "level of each state": "What each state shows on average",
    "covariance": "How much each point says about each other one",
    "deviation": "How uncertain the function is (one standard deviation)",
    "surprise": "How surprising each pixel was, in nats (dark: much)",
}
# shown in words by the step's name or note already
SAID = frozenset({"symbol", "label", "component", "read", "masked", "placed"})
GAP = "▢"

Frame = tuple[str, str]


def frames(steps: Iterable[Step], modality: Modality) -> list[Frame]:
    """A caption and HTML for each step; of very many steps, an even choice that keeps the first and the last."""
    steps = list(steps)
    if len(steps) > MOST_FRAMES:
        places = torch.linspace(0, len(steps) - 1, MOST_FRAMES).round().long().tolist()
        steps = [steps[place] for place in places]
    draw = _RENDERERS[type(modality.form)]
    return [
        (f"{number + 1}. {step.name}", paragraphs(step.note) + draw(step, modality)) for number, step in enumerate(steps)
    ]


def _tokens(step: Step, modality: Modality) -> str:
    body = texts([_with_gaps(modality, step.x, step.data.get("masked"))], limit=4000) if step.x is not None else ""
    form = modality.form
    assert isinstance(form, Tokens)
    drawn = step.data.get("symbol")
    chosen = None if drawn is None else int(drawn.reshape(-1)[0])
    if chosen is not None:
        body += f"<p>Drawn: <code>{escape(_symbol(modality, chosen))}</code></p>"
    read = step.data.get("read")
    for name, tensor in step.data.items():
        if name in SAID or (name == "kept" and torch.allclose(tensor, step.data.get("odds", tensor), atol=1e-4)):
            continue
        title = f"<h3>{escape(TITLES.get(name, name))}</h3>"
        if tensor.numel() == form.vocabulary:
            body += title + _odds(tensor.flatten(), modality, chosen)
        elif tensor.ndim == 2 and tensor.shape[1] == form.vocabulary:
            each = "".join(f"<div><h4>part {k + 1}</h4>{_odds(row, modality, chosen)}</div>" for k, row in enumerate(tensor))
            body += f'{title}<div class="columns">{each}</div>'
        elif read is not None and tensor.ndim == 3 and tensor.shape[2] == read.numel():
            body += title + _looks(tensor, [_symbol(modality, symbol) for symbol in read.flatten().tolist()])
        elif name == "path" and step.x is not None:
            pairs = zip(step.x[0].tolist(), tensor.tolist(), strict=False)
            body += title + "<p>" + " ".join(_behind(_symbol(modality, symbol), state) for symbol, state in pairs) + "</p>"
        elif name == "by order":
            names = ["no history", *(f"{n} before" for n in range(1, tensor.numel()))]
            body += title + _shares(names, tensor.flatten().tolist())
        elif name == "weights":
            body += title + _shares([f"part {k + 1}" for k in range(tensor.numel())], tensor.flatten().tolist())
        else:
            body += _tensor(name, tensor)
    return body


def _behind(symbol: str, state: int) -> str:
    return f"<code>{escape(symbol)}</code><sub>{state}</sub>"


def _with_gaps(modality: Modality, x: Tensor, masked: Tensor | None) -> str:
    """The text, with a box for each symbol that is still masked."""
    if masked is None or not masked.any():
        return _text(modality, x)
    between = " " if getattr(modality.settings, "tokenizer", "") == "word" else ""
    runs: list[str] = []
    start, count = 0, x.shape[1]
    while start < count:
        stop = start + 1
        while stop < count and bool(masked[stop]) == bool(masked[start]):
            stop += 1
        boxes = between.join(GAP for _ in range(start, stop))
        runs.append(boxes if masked[start] else _text(modality, x[:, start:stop]))
        start = stop
    return between.join(runs)


def _text(modality: Modality, x: Tensor) -> str:
    return "".join(map(str, modality.decode(x))) if x.shape[1] else ""


def _symbol(modality: Modality, symbol: int) -> str:
    """One symbol as a reader can see it, white space and the two ends too."""
    form = modality.form
    assert isinstance(form, Tokens)
    if symbol == form.end:
        return "(end)"
    if symbol >= form.vocabulary:
        return "(begin)" if symbol == form.begin else GAP
    text = _text(modality, torch.tensor([[symbol]]))
    return {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(text, text) or "(end)"


def _looks(attention: Tensor, read: list[str]) -> str:
    """``attention`` ``[layer, head, read]`` as the text that was read, once for each head, shaded by the attention."""
    begin = max(0, len(read) - MOST_READ)
    body = "<p>The rest of the text stands further to the left.</p>" if begin else ""
    for layer, heads in enumerate(attention.detach().float().cpu()):
        for number, head in enumerate(heads):
            most = max(float(head.max()), 1e-9)
            marked = "".join(
                f'<b style="--look:{100 * float(share) / most:.0f}%">{escape(text)}</b>'
                for text, share in zip(read[begin:], head[begin:], strict=True)
            )
            body += f'<div class="look"><span>layer {layer + 1}, head {number + 1}</span><code>{marked}</code></div>'
    return body


def _shares(names: list[str], values: list[float]) -> str:
    """Named probabilities as bars."""
    rows = [
        f'<code>{escape(name)}</code><i style="width:{100 * value:.1f}%"></i><span>{100 * value:.1f} %</span>'
        for name, value in zip(names, values, strict=True)
    ]
    return f'<div class="odds">{"".join(rows)}</div>'


def _odds(odds: Tensor, modality: Modality, chosen: int | None) -> str:
    """The most probable symbols as bars, and the drawn one; ``odds`` may be probabilities or logits."""
    odds = odds.double()
    if (odds < 0).any() or abs(float(odds.sum()) - 1) > 1e-3:
        odds = odds.softmax(dim=0)
    symbols = odds.topk(min(MOST_BARS, len(odds))).indices.tolist()
    if chosen is not None and chosen not in symbols:
        symbols = [*symbols[:-1], chosen]
    names = [_symbol(modality, symbol) + (" ←" if symbol == chosen else "") for symbol in symbols]
    return _shares(names, [float(odds[symbol]) for symbol in symbols])


def _grid(step: Step, modality: Modality) -> str:
    body = ""
    if step.x is not None:
        image = modality.decode(step.x)[0]
        body += picture(enlarged(image))
    return body + _tensors(step)


def enlarged(image: "Image", side: int = 256) -> "Image":
    """A small PIL image as large as a person can see it, its pixels kept square and sharp."""
    from PIL.Image import Resampling

    factor = max(1, side // max(image.size))
    return image if factor == 1 else image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)


def _row(step: Step, modality: Modality) -> str:
    body = ""
    if step.x is not None:
        row = dict(modality.decode(step.x)[0])
        body += table(["column", "value"], list(row.items()), numbers=False)
    return body + _tensors(step)


def _tensors(step: Step) -> str:
    return "".join(_tensor(name, tensor) for name, tensor in step.data.items() if name not in SAID)


def _curve(step: Step, modality: Modality) -> str:
    form = modality.form
    inputs = form.inputs if isinstance(form, Curve) else 1
    across, up, *_ = getattr(modality, "names", ("x", "y"))
    lines = []
    if step.x is not None:
        x = step.x[0].detach().double().cpu()
        order = x[:, 0].argsort()
        lines.append(Line(step.name, x[order, 0].tolist(), x[order, inputs].tolist()))
    others = ""
    for name, tensor in step.data.items():
        curve = tensor.detach().double().cpu()
        curve = curve[0] if curve.ndim == 3 and curve.shape[0] == 1 else curve
        if curve.ndim == 2 and curve.shape[1] == inputs + 1:
            # the mean is the step's own item already
            if step.x is None or not torch.equal(curve, step.x[0].detach().double().cpu()):
                at = curve[:, 0].argsort()
                lines.append(Line(name, curve[at, 0].tolist(), curve[at, inputs].tolist(), dashed=True))
        elif curve.ndim == 3 and curve.shape[2] == inputs + 1:
            for number, one in enumerate(curve[:5]):
                lines.append(Line(f"{name} {number + 1}", one[:, 0].tolist(), one[:, inputs].tolist()))
        elif step.x is not None and curve.ndim == 2 and curve.shape == (step.x.shape[1], 1):
            others += f"<h3>{escape(TITLES.get(name, name))}</h3>"
            others += chart([Line("", x[order, 0].tolist(), curve[order, 0].tolist())], x=across, y=name, height=1.9)
        else:
            others += _tensor(name, tensor)
    return chart(lines, x=across, y=up) + others


_RENDERERS: dict[type[Form], Callable[[Step, Modality], str]] = {Tokens: _tokens, Grid: _grid, Row: _row, Curve: _curve}


def _tensor(name: str, tensor: Tensor) -> str:
    """A named tensor: a number, bars, a heat map, or a sheet of feature maps."""
    values = tensor.detach().float().cpu()
    while values.ndim > 1 and values.shape[0] == 1:
        values = values[0]
    title = f"<h3>{escape(TITLES.get(name, name))}</h3>"
    if values.numel() == 1:
        return f"{title}<p>{float(values):.4g}</p>"
    if values.ndim == 1:
        return title + (_bars(values) if len(values) <= 64 else _heat(values[None]))
    if values.ndim == 2:
        return title + _heat(values)
    return title + _heat(_sheet(values))


def _bars(values: Tensor) -> str:
    position = list(range(len(values)))
    return chart([Line("", position, values.tolist(), bars=True)], x="number", y="value", height=1.9)


def _sheet(maps: Tensor, most: int = 16) -> Tensor:
    """Up to 16 maps ``[map, height, width]`` side by side in rows of eight, with a gap of one."""
    maps = maps.reshape(-1, *maps.shape[-2:])[:most]
    padded = torch.nn.functional.pad(maps, (0, 1, 0, 1), value=float(maps.min()))
    across = min(8, len(padded))
    padded = torch.nn.functional.pad(padded, (0, 0, 0, 0, 0, -len(padded) % across), value=float(maps.min()))
    rows = padded.unflatten(0, (-1, across))
    return rows.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def _heat(values: Tensor) -> str:
    """A matrix as a grey picture, dark for high values."""
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else torch.zeros_like(values)
    image = Image.fromarray((255 - 225 * scaled).round().byte().numpy(), mode=None)
    return picture(enlarged(image, side=320), f"from {low:.3g} (light) to {high:.3g} (dark)")
