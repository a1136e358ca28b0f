"""Which places of a text are hidden while a model learns to fill them, and what it reads there instead.

Papers: Devlin et al. 2019, arXiv 1810.04805; spans, Joshi et al. 2020, arXiv 1907.10529.
"""

import torch
from torch import Tensor

from pieria.noise import Noise
from pieria.sampling.filling import smallest

MASKED, OTHER = 0.8, 0.9  # of the places to be told, so many become the mask; up to here another symbol; the rest stay


def word_starts(strings: list[str]) -> list[bool]:
    """Which symbols begin a word, by what they look like: where no letter or digit goes on, or where no ``##`` does."""
    pieces = any(string.startswith("##") for string in strings)
    begins = [not s.startswith("##") if pieces else not s[:1].isalnum() for s in strings]
    # where no symbol of several letters holds a space, symbols are whole words (or single letters, which spaces part)
    long = [s for s in strings if len(s) > 1]
    words = not pieces and bool(long) and all(s.strip() == s for s in long) and not any(s == " " for s in strings)
    return [True] * len(begins) if words or not any(begins) else begins


def places(
    among: Tensor, noise: Noise, share: float, *, writing: float = 0.0, least: int = 0, begins: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """The places to be told, and the items of which any number of places was chosen: bool ``[batch, time]``, ``[batch]``.

    Args:
        among: the places that may be chosen, bool ``[batch, time]``.
        noise: of the items.
        share: of an item's places; a part of a place is one place with that probability.
        writing: the share of items of which any number of places is chosen.
        least: so many are always told of an item.
        begins: where the runs begin that are chosen together, bool ``[batch, time]``; or how probable it is of each place.
    """
    device, time = among.device, among.shape[1:]
    whole = noise.uniform("writing").to(device) < writing
    each = torch.where(whole, noise.uniform("share").to(device), share)
    count = (each * among.sum(dim=1) + noise.uniform("rounding").to(device)).floor().clamp(min=least)
    keys = noise.uniform("place", time).to(device)
    if not isinstance(begins, float) or begins < 1:
        starts = noise.uniform("span", time).to(device) < begins if isinstance(begins, float) else begins
        at = torch.arange(among.shape[1], device=device).expand(among.shape)
        keys = keys.gather(1, at.masked_fill(~starts, 0).cummax(dim=1).values)  # a run has the key of its first place
    return smallest(among, keys, count), whole


def disguised(x: Tensor, told: Tensor, whole: Tensor, noise: Noise, *, vocabulary: int, mask: int) -> Tensor:
    """What is read instead of ``x`` where it is ``told``: mostly the mask, else any symbol, or what stands there.

    Of items of which any number of places was chosen (``whole``), as when they are written, all become the mask.
    """
    kind = noise.uniform("kind", x.shape[1:]).to(x.device)
    others = noise.integers("other", vocabulary, x.shape[1:]).to(x.device)
    read = torch.where(told & (kind < OTHER), others, x)
    return read.masked_fill(told & ((kind < MASKED) | whole[:, None]), mask)
