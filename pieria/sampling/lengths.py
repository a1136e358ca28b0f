"""How long an item is, where that is settled before its symbols are: a law of the lengths met in training."""

import torch
from torch import Tensor

from pieria.data.batch import mask_after_end
from pieria.sampling.decoding import chosen

UNSEEN = 1e-3  # the share of the law that all lengths have alike


def lengths_of(x: Tensor, end: int, longest: int) -> Tensor:
    """How many symbols each item has with its end, one more than there are places for one that is cut; long ``[batch]``."""
    return torch.where(x.eq(end).any(dim=1), mask_after_end(x, end).sum(dim=1), longest + 1)


def law_of(counted: Tensor) -> Tensor:
    """The probability of each length ``1, 2, …``, and last of being cut before the end, from how often each was met."""
    shares = counted.double() / counted.sum().clamp(min=1)
    return shares * (1 - UNSEEN) + UNSEEN / len(shares) if bool(shares.any()) else shares + 1 / len(shares)


def ended(x: Tensor, masked: Tensor, law: Tensor, end: int, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """``x`` with ends, and what of it is still ``masked``: an end is given, or drawn from the lengths that agree with ``x``.

    ``law`` is `law_of`'s; ``uniform`` ``[batch]`` decides among the lengths.
    """
    time = x.shape[1]
    places = torch.arange(1, time + 1, device=x.device)
    given, ends = ~masked & (x != end), ~masked & (x == end)
    least = (given * places).amax(dim=1)  # symbols that must stand before the end
    first = torch.where(ends, places, time + 1).amin(dim=1)  # a given end; one past all where there is none
    lengths = torch.arange(1, time + 2, device=x.device)  # with the end; the last is an item without one
    fits = (lengths > least[:, None]) & (lengths <= first[:, None])
    odds = torch.cat([law[:time], law[-1:]]).log().masked_fill(~fits, -torch.inf)
    length = lengths[chosen(odds, uniform.double().to(x.device)[:, None])]
    return torch.where(places >= length[:, None], end, x), masked & (places < length[:, None])
