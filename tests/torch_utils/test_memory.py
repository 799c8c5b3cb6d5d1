"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from torch_utils.memory import keep_freed_memory
if not keep_freed_memory():
    sys.exit(3)
torch.set_num_threads(1)
held = torch.zeros(1 << 22)  # 16 MiB
def work():
    results = [held + 1 for _ in range(4)]
    while results:  # the last made is the last in memory
        results.pop()
for _ in range(4):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_no_page_is_faulted_in_twice() -> None:
    """80 tensors of 4,096 pages: without a word to glibc they are new to the process each time."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=60)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80 * 4096 / 10
