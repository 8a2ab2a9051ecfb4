"""A Python process that has imported TensorFlow and Foolbox and forks for each question that a
child process of ours is asked: it answers in a tenth of a second, not in five. Nothing of ours, and
nothing of a test's, is imported before the fork."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


class WarmPython:
    """Starts with its first question and ends with this process, as its standard input does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, command: Sequence[str], *, env: Mapping[str, str], input: str, **_: Any
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of `python -P -m MODULE`, its output captured as text."""
        python, *options, module = command
        assert (python, options) == (sys.executable, ["-P", "-m"]), command
        with tempfile.TemporaryDirectory() as folder:
            streams = [str(Path(folder) / name) for name in ("in", "out", "err")]
            Path(streams[0]).write_text(input)
            asked = [module, dict(env), os.getcwd(), streams]
            code = self._ask(json.dumps(asked))
            out, err = (Path(stream).read_text() for stream in streams[1:])
        return subprocess.CompletedProcess(command, code, out, err)

    def _ask(self, line: str) -> int:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm"],
                cwd=_ROOT,
                env=os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(self.close)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()


def main() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        import foolbox  # noqa: F401
        import keras  # noqa: F401
        import tensorflow  # noqa: F401

    # What a fresh process finds beside PYTHONPATH.
    ours = {str(_ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    library = [folder for folder in sys.path if folder not in ours]
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _answer(json.loads(line), library)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _answer(asked: tuple[str, dict[str, str], str, list[str]], library: list[str]) -> None:
    """In the child. Does not return."""
    module, env, folder, streams = asked
    code = 1
    try:
        for number, path in enumerate(streams):
            opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(opened, number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
        os.environ.clear()
        os.environ.update(env)
        os.chdir(folder)
        paths = env["PYTHONPATH"].split(os.pathsep)
        sys.path[:] = [*paths, *(each for each in library if each not in paths)]
        sys.dont_write_bytecode = True  # two edits within a second leave a file that looks current
        for name in [n for n in sys.modules if n.partition(".")[0] == "tests"]:
            del sys.modules[name]
        sys.argv = [module]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
