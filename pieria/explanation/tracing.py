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
    body = texts([_text(modality, step.x)], limit=4000) if step.x is not None else ""
    form = modality.form
    assert isinstance(form, Tokens)
    for name, tensor in step.data.items():
        if tensor.numel() == form.vocabulary:
            body += f"<h3>{escape(name)}</h3>" + _odds(
                tensor.flatten(), lambda symbol: _text(modality, torch.tensor([[symbol]]))
            )
        else:
            body += _tensor(name, tensor)
    return body


def _text(modality: Modality, x: Tensor) -> str:
    return "".join(map(str, modality.decode(x))) if x.shape[1] else ""


def _odds(odds: Tensor, named: Callable[[int], str]) -> str:
    """The most probable symbols as bars; ``odds`` may be probabilities or logits."""
    odds = odds.double()
    if (odds < 0).any() or abs(float(odds.sum()) - 1) > 1e-3:
        odds = odds.softmax(dim=0)
    rows = []
    for value, symbol in zip(*(part.tolist() for part in odds.topk(min(MOST_BARS, len(odds)))), strict=True):
        shown = repr(named(symbol))[1:-1] or "(end)"
        rows.append(f'<code>{escape(shown)}</code><i style="width:{100 * value:.1f}%"></i><span>{100 * value:.1f} %</span>')
    return f'<div class="odds">{"".join(rows)}</div>'


def _grid(step: Step, modality: Modality) -> str:
    body = ""
    if step.x is not None:
        image = modality.decode(step.x)[0]
        body += picture(enlarged(image))
    return body + "".join(_tensor(name, tensor) for name, tensor in step.data.items())


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
    return body + "".join(_tensor(name, tensor) for name, tensor in step.data.items())


def _curve(step: Step, modality: Modality) -> str:
    form = modality.form
    inputs = form.inputs if isinstance(form, Curve) else 1
    lines = []
    if step.x is not None:
        x = step.x[0].detach().double().cpu()
        order = x[:, 0].argsort()
        lines.append(Line("drawn", x[order, 0].tolist(), x[order, inputs].tolist()))
    others = ""
    for name, tensor in step.data.items():
        curve = tensor.detach().double().cpu()
        curve = curve[0] if curve.ndim == 3 and curve.shape[0] == 1 else curve
        if curve.ndim == 2 and curve.shape[1] == inputs + 1:
            order = curve[:, 0].argsort()
            lines.append(Line(name, curve[order, 0].tolist(), curve[order, inputs].tolist(), dashed=True))
        elif curve.ndim == 3 and curve.shape[2] == inputs + 1:
            for number, one in enumerate(curve[:5]):
                lines.append(Line(f"{name} {number + 1}", one[:, 0].tolist(), one[:, inputs].tolist()))
        else:
            others += _tensor(name, tensor)
    return chart(lines, x="x", y="y") + others


_RENDERERS: dict[type[Form], Callable[[Step, Modality], str]] = {Tokens: _tokens, Grid: _grid, Row: _row, Curve: _curve}


def _tensor(name: str, tensor: Tensor) -> str:
    """A named tensor: a number, bars, a heat map, or a sheet of feature maps."""
    values = tensor.detach().float().cpu()
    while values.ndim > 1 and values.shape[0] == 1:
        values = values[0]
    title = f"<h3>{escape(name)}</h3>"
    if values.numel() == 1:
        return f"{title}<p>{float(values):.4g}</p>"
    if values.ndim == 1:
        return title + (_bars(values) if len(values) <= 64 else _heat(values[None]))
    if values.ndim == 2:
        return title + _heat(values)
    return title + _heat(_sheet(values))


def _bars(values: Tensor) -> str:
    position = range(len(values))
    return chart([Line("value", list(position), values.tolist())], x="place", y="value", height=1.9)


def _sheet(maps: Tensor, most: int = 16) -> Tensor:
    """Up to 16 maps ``[map, height, width]`` side by side in rows of eight, with a gap of one."""
    maps = maps.reshape(-1, *maps.shape[-2:])[:most]
    padded = torch.nn.functional.pad(maps, (0, 1, 0, 1), value=float(maps.min()))
    padded = torch.nn.functional.pad(padded, (0, 0, 0, 0, 0, -len(padded) % 8), value=float(maps.min()))
    rows = padded.unflatten(0, (-1, min(8, len(padded))))
    return rows.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def _heat(values: Tensor) -> str:
    """A matrix as a grey picture, dark for high values."""
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else torch.zeros_like(values)
    image = Image.fromarray((255 - 225 * scaled).round().byte().numpy(), mode=None)
    return picture(enlarged(image, side=320), f"from {low:.3g} (light) to {high:.3g} (dark)")
