"""What a process printed in its last attempt, read by another one."""

from __future__ import annotations

import os
import subprocess
import sys

from prunegrid.workers import worker_logs

CODE = """
import os, sys
from prunegrid.workers import worker_logs
print("before any attempt")
worker_logs.begin()
print("first"); os.write(2, b"native, first\\n")
worker_logs.begin()
worker_logs.begin()
print("second", file=sys.stderr); os.write(1, b"\\xff native\\n")
print("unflushed", end="")
worker_logs.flush()
os.write(2, ("\\n".join(worker_logs.streams())).encode())
os.abort()
"""


def test_only_the_last_attempt_of_a_process_that_died(tmp_path):
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as to_out, err.open("wb") as to_err:
        subprocess.run([sys.executable, "-c", CODE], stdout=to_out, stderr=to_err, check=False)
    paths = (str(out), str(err))
    assert worker_logs.last_attempt(paths) == "\ufffd native\nunflushed\nsecond\n" + "\n".join(
        paths
    )
    assert out.read_text(errors="replace").count("an attempt begins") == 2, "none after nothing"


def test_much_is_cut_to_its_end_and_a_file_that_is_gone_says_nothing(tmp_path):
    path = tmp_path / "err"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))
    text = worker_logs.last_attempt([str(path), str(tmp_path / "gone")])
    assert len(text) < worker_logs.MOST_BYTES
    assert text.endswith("line 99999")


def test_a_terminal_or_pipe_is_no_file():
    code = "from prunegrid.workers import worker_logs; print(worker_logs.streams())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"()"
    assert os.path.exists("/proc/self/fd/1"), "else the test shows nothing"
