import resource
import subprocess
import sys

import pytest

from pieria.training.memory import keep_freed

# the same tensor made and freed again and again, as a training step does; prints the pages that were asked for
CHURN = """
import resource, sys, torch
from pieria.training.memory import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
for _ in range(3):
    torch.ones(2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    a, b = torch.ones(2**20), torch.ones(2**20)
    del a, b
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed(), reason="the C library cannot be asked to keep memory")
def test_memory_that_was_freed_is_taken_again():
    def pages(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", CHURN, how], check=True, capture_output=True, text=True)
        return int(done.stdout)

    whole = 2 * 2**22 // resource.getpagesize()  # pages of one turn
    assert pages("kept") < 2 * whole  # at most the first turns
    assert pages("returned") > 5 * whole
