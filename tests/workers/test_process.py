"""A worker's process leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunegrid.workers.process import Whereabouts, end_process

CODE = """
import dataclasses, json, os, sys, tempfile, time
from prunegrid.workers.process import announce
where = announce()
assert announce() == where
with tempfile.NamedTemporaryFile(delete=False) as left:
    print(json.dumps([dataclasses.asdict(where), left.name]), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_its_temporary_files_go_with_it(how, tmp_path):
    worker = subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, env={"TMPDIR": str(tmp_path)}
    )
    assert worker.stdout is not None
    fields, left = json.loads(worker.stdout.readline())
    where = Whereabouts(**fields | {"streams": tuple(fields["streams"])})
    assert Path(left).exists()
    assert Path(left).parent == Path(where.stack_file).parent
    assert [path.name.split("-")[:2] for path in tmp_path.iterdir()] == [
        ["prunegrid", str(worker.pid)]
    ]
    if how is None:
        assert 'File "<string>", line' in end_process(where).stacks
    else:
        worker.send_signal(how)
    worker.communicate()
    limit_s = time.monotonic() + 60
    while list(tmp_path.iterdir()):
        assert time.monotonic() < limit_s, "its folder stays"
        time.sleep(0.02)
