import resource
import subprocess
import sys

import pytest

from pieria.training.memory import keep_freed

# forty tensors made and freed twice; prints how many pages the second time asked for
CHURN = """
import resource, sys, torch
from pieria.training.memory import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(2**20) for _ in range(40)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed(), reason="the C library cannot be asked to keep memory")
def test_memory_that_was_freed_is_taken_again():
    def pages(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", CHURN, how], check=True, capture_output=True, text=True)
        return int(done.stdout)

    whole = 40 * 2**22 // resource.getpagesize()
    assert pages("kept") < whole / 4
    assert pages("returned") > whole * 3 / 4  # or the test says nothing
