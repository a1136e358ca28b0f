"""Which symbols may come next: log-odds in, log-odds out, with minus infinity where a symbol is ruled out.

Each function takes float ``[batch, vocabulary]`` and leaves at least one symbol. Symbols that tie with the last one kept
are kept too, so that no result depends on the order in which equal odds are sorted.
"""

import math

import torch
from torch import Tensor

NEVER = -math.inf


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the ``k`` most probable symbols (Fan et al. 2018, arXiv 1805.04833).

    >>> top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    tensor([[-inf, 3., 2.]])
    """
    if k >= logits.shape[-1]:
        return logits
    last = torch.topk(logits, k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < last, NEVER)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable symbols that together have probability ``p`` or more.

    A symbol stays if the more probable ones together have less than ``p`` (Holtzman et al. 2020, arXiv 1904.09751).

    >>> top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.6).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if p >= 1:
        return logits
    ordered = torch.sort(logits, dim=-1, descending=True).values
    odds = torch.softmax(ordered, dim=-1, dtype=torch.float64)
    kept = (odds.cumsum(dim=-1) - odds < p).sum(dim=-1, keepdim=True)  # at least 1: before the first there is nothing
    last = ordered.gather(-1, kept.clamp_(min=1) - 1)
    return logits.masked_fill(logits < last, NEVER)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep symbols at least ``p`` times as probable as the most probable one (Nguyen et al. 2024, arXiv 2407.01082).

    >>> min_p(torch.tensor([[0.6, 0.3, 0.1]]).log(), 0.4).exp()
    tensor([[0.6000, 0.3000, 0.0000]])
    """
    if p <= 0:
        return logits
    return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(p), NEVER)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make symbols that were ``seen`` (bool ``[batch, vocabulary]``) less probable.

    After Keskar et al. 2019 (arXiv 1909.05858).
    With s = log p + log vocabulary, the log-odds against a uniform draw, a seen symbol has s / penalty where s > 0 and
    s · penalty elsewhere. The paper takes the network's raw output for s; the constant that log-odds leave open would then
    matter, and an n-gram and a network with the same probabilities would be penalised differently.
    """
    if penalty == 1:
        return logits
    against_uniform = torch.log_softmax(logits, dim=-1) + math.log(logits.shape[-1])
    lower = torch.where(against_uniform > 0, against_uniform / penalty, against_uniform * penalty)
    return torch.where(seen, lower, against_uniform)
