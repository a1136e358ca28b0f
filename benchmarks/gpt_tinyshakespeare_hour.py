"""GPT after an hour on two cores on tinyshakespeare, alone and mixed with an n-gram.

The protocol of `gpt_tinyshakespeare`, with sixty minutes of training, windows of 256 and dropout, since an hour goes over
the same million characters many times. Goals: 1.52 and 1.42 nats a character. The gate trains for four minutes.
"""

from benchmarks import Outcome
from benchmarks.gpt_tinyshakespeare import Course, compared

HOUR = Course(
    length=256,
    settings={"layers": 6, "heads": 6, "width": 384, "dropout": 0.2},
    plan={"batch": 32},
)


def measure(gate: bool) -> Outcome:
    return compared(HOUR, seconds=240.0 if gate else 3600.0, goals=(1.85, 1.50) if gate else (1.52, 1.42))
