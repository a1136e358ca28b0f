"""IWAE on dynamically binarised MNIST: nats of the test digits by 5,000 importance samples, and C-FID of what it draws.

Protocol, networks and figures of `vae_mnist`; in training, the bound of several codes for each digit (Burda et al. 2016, who
reached 84.78 nats with 50 codes and 85.54 with 5, each after 3,280 passes over the data). On a GPU 50 codes, whose slope the
encoder follows by the path of the codes alone (DReG, Tucker et al. 2019); on processors 5, since a step of 50 takes longer
than all that an hour has time for: 1,600 steps of 32 digits a minute of one core, not an epoch.
Goal: at most 87.0 nats within an hour on two cores, 84.8 after half an hour on an H200. The gate: at most 93 after two
minutes.
"""

import torch

from benchmarks import Outcome
from benchmarks.vae_mnist import GATE, GOAL, measured


def measure(gate: bool) -> Outcome:
    """``gate`` trains two minutes, scores 500 digits with 1,000 samples and draws 2,000."""
    many = torch.cuda.is_available()
    settings = {"draws": 50, "gradient": "path"} if many else {"draws": 5}
    return measured(settings, gate, GATE if gate else 84.8 if many else GOAL)
