"""One self-contained HTML page: no script and no picture from elsewhere; it can be mailed, and opened in ten years."""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
COLOURS = ("#2c6fbb", "#c8553d", "#3b8f5a", "#8a5fb0", "#c08a1e", "#4d9aa3", "#a3476f", "#6b6b6b")


def escape(value: object) -> str:
    """Text, safe inside HTML."""
    return html.escape(str(value))


def marked(text: str) -> str:
    """A docstring's text as HTML: escaped, with its ``code`` and **strong** words marked."""
    text = re.sub(r"``(.+?)``|`(.+?)`", lambda found: f"<code>{found[1] or found[2]}</code>", escape(text), flags=re.S)
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text, flags=re.S)


def paragraphs(*texts: str) -> str:
    """Each text as a paragraph."""
    return "".join(f"<p>{marked(text)}</p>" for text in texts if text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = True) -> str:
    """An HTML table; cells are escaped. With ``numbers`` all but the first column are aligned to the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape('' if c is None else c)}</td>" for c in row) + "</tr>" for row in rows)
    kind = "numbers" if numbers else "words"
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def picture(image: bytes | Path | Any, caption: str = "") -> str:
    """A PNG (bytes, a path, or a PIL image) inside the page."""
    if isinstance(image, Path):
        raw = image.read_bytes()
    elif isinstance(image, bytes):
        raw = image
    else:
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        raw = buffer.getvalue()
    source = "data:image/png;base64," + base64.b64encode(raw).decode()
    said = escape(caption)
    return f'<figure><img class="pixels" src="{source}" alt="{said}"><figcaption>{said}</figcaption></figure>'


def texts(items: Iterable[str], limit: int = 700) -> str:
    """Texts as they are, each in its own block."""
    return "".join(f"<pre>{escape(item if len(item) <= limit else item[:limit] + ' …')}</pre>" for item in items)


@dataclass(frozen=True)
class Line:
    """A named line of a chart; not joined but labelled with ``dots``, or standing on zero with ``bars``."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False
    dashed: bool = False
    bars: bool = False


def chart(lines: Sequence[Line], *, x: str, y: str, log_x: bool = False, width: float = 6.4, height: float = 3.2) -> str:
    """A line chart as SVG; empty if there is nothing to draw."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    lines = [line for line in lines if len(line.x)]
    if not lines:
        return ""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        if line.dots:
            axes.scatter(line.x, line.y, color=colour, s=42, zorder=3)
            for a, b in zip(line.x, line.y, strict=True):
                axes.annotate(line.name, (a, b), xytext=(7, 5), textcoords="offset points", fontsize=9, color=colour)
        elif line.bars:
            axes.bar(line.x, line.y, color=colour)
        else:
            axes.plot(line.x, line.y, color=colour, label=line.name, linewidth=1.6, linestyle="--" if line.dashed else "-")
    if any(line.name and not line.dots for line in lines):
        axes.legend(frameon=False, fontsize=9)
    if log_x:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.margins(x=0.08, y=0.12)
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    drawn = buffer.getvalue()
    return f'<figure class="chart">{drawn[drawn.index("<svg") :]}</figure>'


def film(frames: Sequence[tuple[str, str]], name: str) -> str:
    """Frames (caption, HTML) that one slides through; the last is shown first, and without script all of them are."""
    if not frames:
        return ""
    shown = "".join(
        f'<div class="frame" data-frame="{number}"><p class="caption">{escape(caption)}</p>{body}</div>'
        for number, (caption, body) in enumerate(frames)
    )
    last = len(frames) - 1
    if not last:
        return f'<div class="film">{shown}</div>'
    return (
        f'<div class="film" id="{escape(name)}"><div class="bar"><button type="button" aria-label="play">▶</button>'
        f'<input type="range" min="0" max="{last}" value="{last}" aria-label="frame"></div>{shown}</div>'
    )


@dataclass
class Page:
    """A page under construction: a title, a lead, and sections in order."""

    title: str
    lead: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    sections: list[tuple[str, str]] = field(default_factory=list)

    def add(self, title: str, *bodies: str) -> None:
        """A section, if it has anything in it."""
        body = "".join(bodies)
        if body:
            self.sections.append((title, body))

    def html(self) -> str:
        """The page."""
        anchors = [(f"s{number}", title, body) for number, (title, body) in enumerate(self.sections)]
        contents = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in anchors)
        body = "".join(
            f'<section id="{anchor}"><h2>{escape(title)}</h2>{content}</section>' for anchor, title, content in anchors
        )
        facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in self.facts.items())
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><main>'
            f"<header><h1>{escape(self.title)}</h1>{paragraphs(self.lead)}<dl>{facts}</dl></header><nav>{contents}</nav>{body}"
            f"<footer>Made by Pieria. This page needs no network and no other file.</footer></main>"
            f"<script>{_SCRIPT}</script></body></html>"
        )


# one frame at a time, moved by the slider or by the button
_SCRIPT = """
for (const film of document.querySelectorAll('.film')) {
  const frames = [...film.querySelectorAll('.frame')];
  const slider = film.querySelector('input'), play = film.querySelector('button');
  if (!slider) continue;
  const show = n => frames.forEach((frame, i) => frame.hidden = i !== n);
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = '▶'; };
  slider.oninput = () => { stop(); show(+slider.value); };
  play.onclick = () => {
    if (timer) return stop();
    if (+slider.value === frames.length - 1) slider.value = 0;
    play.textContent = '❚❚'; show(+slider.value);
    timer = setInterval(() => {
      if (+slider.value >= frames.length - 1) return stop();
      slider.value = +slider.value + 1; show(+slider.value);
    }, Math.max(80, Math.min(600, 8000 / frames.length)));
  };
  show(frames.length - 1);
}
"""
