"""IWAE-50 on dynamically binarised MNIST: nats of the test digits by 5,000 importance samples, and C-FID of what it draws.

Protocol, networks and figures of `vae_mnist`; in training, the bound of 50 codes for each digit (Burda et al. 2016, who
reached 84.78 nats after 3,280 passes over the data), its slope for the encoder by the path of the codes alone (DReG, Tucker
et al. 2019). A step of 50 codes costs as much as many steps of one, so batches are small.
Goal: at most 87.0 nats after an hour on two cores. The gate trains two minutes: at most 93 nats.
"""

from benchmarks import Outcome
from benchmarks.vae_mnist import measured

SETTINGS = {"draws": 50, "gradient": "path"}
PLAN = {"batch": 24, "rate": 1.5e-3}


def measure(gate: bool) -> Outcome:
    """``gate`` trains two minutes, scores 500 digits with 1,000 samples and draws 2,000."""
    return measured(SETTINGS, PLAN, gate)
