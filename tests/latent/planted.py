"""A latent space that is known: pictures of 4 × 4 pixels, linear in a code of three numbers."""

from typing import ClassVar

import numpy as np
import torch

from pieria.forms import Grid
from pieria.layers import grids
from pieria.models.contract import Model, NoOptions

FORM = Grid(1, 4, 4, levels=256)
STRENGTH = torch.tensor([0.25, 0.12, 0.04])  # how much each number of the code changes the picture


class Planted(Model):
    """Decodes, and nothing else."""

    Settings = NoOptions
    consumes = frozenset({Grid})
    presets: ClassVar = {"tiny": {}}
    paper = "none"

    def __init__(self):
        super().__init__(NoOptions(), FORM)
        base = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(0)))[0].T
        self.register_buffer("weights", base * STRENGTH[:, None] * 4)

    @property
    def latents(self):
        return {"z": (3,)}

    def prior(self, n, noise):
        return noise.normal("z", (3,))

    def mean(self, z):
        return (z @ self.weights).reshape(-1, 1, 4, 4)

    def decode(self, z, space="z", options=None, noise=None, condition=None):
        return grids.write(FORM, self.mean(z))

    def sample(self, n, options, noise, condition=None):
        return self.decode(self.prior(n, noise))


class Sloped(Planted):
    """Also gives the expected item, with a slope."""

    def expected(self, z, space="z", condition=None):
        return self.mean(z)


class Encoding(Sloped):
    """Also finds codes by itself, by least squares."""

    def encode(self, x, space="z", condition=None):
        return grids.read(FORM, x).flatten(1) @ torch.linalg.pinv(self.weights)


SHIFT = torch.tensor([1.2, 0.0, -0.8])  # what makes a 'b' of an 'a'


def pictures(folder, n=60):
    """An .npz of ``n`` pictures of class a and of the same ones shifted, class b; the codes of the first."""
    model = Planted()
    codes = 0.5 * torch.randn(n, 3, generator=torch.Generator().manual_seed(1))
    images = model.decode(torch.cat([codes, codes + SHIFT]))[:, 0].numpy().astype(np.uint8)
    path = folder / "planted.npz"
    np.savez(path, images=images, labels=np.array(["a"] * n + ["b"] * n))
    return path, codes
