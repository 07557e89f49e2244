"""The demo's network on two processes and on one: the same losses."""

import json
import subprocess
import sys

import numpy as np


def losses(processes):
    command = [sys.executable, "-m", "jaxpool.demo.processes", "--steps", "8"]
    command += ["--processes", str(processes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (line,) = (s for s in done.stdout.splitlines() if s[:1] == "[" and s[1].isdigit())
    return json.loads(line)


def test_two_processes_train_as_one():
    one, two = losses(1), losses(2)
    assert len(one) == 8 and one[-1] < one[0]
    np.testing.assert_allclose(two, one, rtol=1e-5)
