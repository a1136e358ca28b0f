"""Vectors that stand for their neighbourhood, each with a number: how a field of features becomes a grid of symbols.

`CodeBook` takes the nearest vector (van den Oord et al. 2017, arXiv 1711.00937), and with ``depth`` above 1 the nearest of a
next list to what is left over, and so on (residual quantisation; Lee et al. 2022, arXiv 2203.01941). Its vectors are running
means of the features that chose them; a vector that few choose is moved to where features are. `SoftCodeBook` learns by
gradient instead, through choices that are drawn (Gumbel-softmax; Jang et al. 2017, arXiv 1611.01144; Ramesh et al. 2021).

Both keep what they have learned in buffers, so that a run that goes on has the same bits as one that was never stopped.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pieria.noise import Noise

STARTING_ROUNDS = 10  # of k-means
SEEN = 1e-4  # share of its equal part below which a vector's running mean has no meaning
COOLEST = 1 / 16  # temperature of the Gumbel-softmax in the end


def perplexity(counts: Tensor) -> Tensor:
    """How many codes are used, as if equally often: ``exp H`` of shares ``[…, codes]``, averaged over what stands before."""
    share = counts / counts.sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp().mean()


class CodeBook(nn.Module):
    """``depth`` lists of ``codes`` vectors of ``width`` numbers.

    Attributes:
        vectors: ``[depth, code, width]``.
        counts, sums: how often each was chosen, 1 being its equal part, and the sum of what chose it: running means.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int, depth: int, *, decay: float, revive: float) -> None:
        super().__init__()
        self.inputs, self.decay, self.revive = width, decay, revive
        self.register_buffer("vectors", torch.randn(depth, codes, width))
        self.register_buffer("counts", torch.ones(depth, codes))
        self.register_buffer("sums", self.vectors.clone())
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def codes(self, features: Tensor) -> Tensor:
        """The numbers of the nearest vectors: float ``[…, width]`` to long ``[…, depth]``."""
        return self._chosen(features)[0]

    def look_up(self, codes: Tensor) -> Tensor:
        """The vectors that codes stand for, summed over the depth: long ``[…, depth]`` to ``[…, width]``."""
        each = [vectors[codes[..., level]] for level, vectors in enumerate(self.vectors)]
        return torch.stack(each).sum(dim=0)

    def _chosen(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The codes; and what was left over before each level, after the last one too."""
        left, codes = [features], []
        for vectors in self.vectors:
            codes.append((vectors.square().sum(dim=1) - 2 * left[-1] @ vectors.T).argmin(dim=-1))
            left.append(left[-1] - vectors[codes[-1]])
        return torch.stack(codes, dim=-1), left

    def begin(self, features: Tensor, noise: Noise) -> None:
        """k-means of ``features`` ``[point, width]``, each level of what the one before left over."""
        depth, count, _ = self.vectors.shape
        left = features
        for level in range(depth):
            order = noise.uniform("centres", (len(left),), step=level)[0].to(left).argsort()
            centres = left[order[torch.arange(count, device=left.device) % len(left)]].clone()
            for _ in range(STARTING_ROUNDS):
                nearest = (centres.square().sum(dim=1) - 2 * left @ centres.T).argmin(dim=1)
                number = torch.bincount(nearest, minlength=count).to(left)
                total = torch.zeros_like(centres).index_add_(0, nearest, left)
                centres = torch.where(number[:, None] > 0, total / number.clamp_min(1)[:, None], centres)
            self.vectors[level] = centres
            self.counts[level] = number * (count / len(left))
            self.sums[level] = centres * self.counts[level][:, None]
            left = left - centres[nearest]

    def learn(self, features: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Quantised features ``[batch, place, width]``, whose gradient goes to the features as they were, and what
        keeps the features near to the vectors: the mean squared distance, averaged over the levels.

        What the vectors learn from it waits for `update`.
        """
        depth, _, width = self.vectors.shape
        with torch.no_grad():
            still = features.detach()
            codes, left = self._chosen(still)
            points = codes.shape[0] * codes.shape[1]
            self._wait(codes.reshape(points, depth), [rest.reshape(points, width) for rest in left], noise)
        # after each level: how far the features lie from the sum of the vectors up to it
        apart = [(features - (still - rest)).square().mean() for rest in left[1:]]
        return features - left[-1], torch.stack(apart).mean()

    def _wait(self, codes: Tensor, left: list[Tensor], noise: Noise) -> None:
        depth, count, _ = self.vectors.shape
        per = -(-count // len(noise))
        picks = noise.uniform("revival", (depth, per)).movedim(1, 0).reshape(depth, -1)[:, :count]
        places = (picks.double() * len(codes)).long().clamp_(max=len(codes) - 1).to(codes.device)
        counts = torch.stack([torch.bincount(codes[:, level], minlength=count) for level in range(depth)])
        sums = torch.stack(
            [torch.zeros_like(self.sums[0]).index_add_(0, codes[:, level], left[level]) for level in range(depth)]
        )
        spare = torch.stack([left[level][places[level]] for level in range(depth)])
        self._waiting.append((counts.to(sums), sums, spare))

    @torch.no_grad()
    def update(self) -> None:
        """Take in what waits: running means, and a new place for each vector that too few features choose."""
        if not self._waiting:
            return
        counts, sums = (torch.stack([part[k] for part in self._waiting]).sum(dim=0) for k in (0, 1))
        spare = self._waiting[-1][2]
        self._waiting = []
        _over_processes(counts, sums)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(spare, src=0)
        scale = counts.shape[1] / counts.sum(dim=1)  # so that 1 is an equal part, whatever the batch
        self.counts.lerp_(counts * scale[:, None], 1 - self.decay)
        self.sums.lerp_(sums * scale[:, None, None], 1 - self.decay)
        known = self.counts[..., None] > SEEN
        self.vectors.copy_(torch.where(known, self.sums / self.counts.clamp_min(SEEN)[..., None], self.vectors))
        dead = self.counts < self.revive
        self.vectors.copy_(torch.where(dead[..., None], spare, self.vectors))
        self.counts.masked_fill_(dead, 1.0)
        self.sums.copy_(torch.where(dead[..., None], spare, self.sums))

    def used(self) -> Tensor:
        """The perplexity of the codes over the last steps, averaged over the levels."""
        return perplexity(self.counts)


class SoftCodeBook(nn.Module):
    """``codes`` vectors, chosen by log-odds that are the features: in training drawn, and soft for the gradient.

    The temperature of the softmax falls by a factor e in ``cooling`` steps, from 1 to `COOLEST`.
    """

    counts: Tensor
    steps: Tensor

    def __init__(self, codes: int, width: int, *, decay: float, cooling: float) -> None:
        super().__init__()
        self.inputs, self.decay, self.cooling = codes, decay, cooling
        self.vectors = nn.Parameter(torch.randn(codes, width) / math.sqrt(width))
        self.register_buffer("counts", torch.ones(1, codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._waiting: list[Tensor] = []

    def codes(self, features: Tensor) -> Tensor:
        """The likeliest codes: float ``[…, codes]`` to long ``[…, 1]``."""
        return features.argmax(dim=-1, keepdim=True)

    def look_up(self, codes: Tensor) -> Tensor:
        """The vectors that codes stand for: long ``[…, 1]`` to ``[…, width]``."""
        return self.vectors[codes[..., 0]]

    def begin(self, features: Tensor, noise: Noise) -> None:
        """It begins at random."""

    def learn(self, features: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """A vector drawn for each place ``[batch, place, width]``, and the nats that the choices tell, a place.

        Those are ``KL(q ‖ uniform) = log codes - H(q)``.
        """
        warmth = max(COOLEST, math.exp(-float(self.steps) / self.cooling))
        chances = features + noise.gumbel("code", features.shape[1:]).to(features)
        soft = (chances / warmth).softmax(dim=-1)
        hard = F.one_hot(chances.argmax(dim=-1), self.inputs).to(soft)
        self._waiting.append(hard.detach().sum(dim=(0, 1)))
        told = math.log(self.inputs) - torch.special.entr(features.softmax(dim=-1)).sum(dim=-1).mean()
        return (hard + soft - soft.detach()) @ self.vectors, told

    @torch.no_grad()
    def update(self) -> None:
        """A step colder; how often each code is chosen."""
        if not self._waiting:
            return
        counts = torch.stack(self._waiting).sum(dim=0)[None]
        self._waiting = []
        _over_processes(counts)
        self.counts.lerp_(counts * (self.inputs / counts.sum()), 1 - self.decay)
        self.steps += 1

    def used(self) -> Tensor:
        """The perplexity of the codes over the last steps."""
        return perplexity(self.counts)


def _over_processes(*tensors: Tensor) -> None:
    """Each tensor summed over the processes that train together, so that all of them keep the same book."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)
