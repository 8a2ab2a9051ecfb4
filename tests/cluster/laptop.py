"""A researcher's laptop: runs commands as they would be typed, and writes down what was seen."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from tests.cluster.machines import HOME

#: Left out of what is shown: how ssh, rsync and Ray's own log tell of copying the files.
_CHATTER = re.compile(
    r"^$|Shared connection|Permanently added|refers to a file|ensure this mount|INFO "
    r"|sent [0-9,]+ bytes|total size is|sending incremental|cached provider conf"
    r"|re-running the command with --no-config|load average"
    r"|^[a-z_/]+\.(py|yaml|csv|sh|css|js|toml|lock)$"
)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Laptop:
    """Commands run in a login shell, in `cwd`."""

    def __init__(self, *, cwd: Path, environment: dict[str, str], transcript: Path | None) -> None:
        self._cwd = cwd
        self.environment = environment | {
            "HOME": str(HOME),
            "USER": "researcher",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "COLUMNS": "100",
        }
        self._transcript = transcript.open("w") if transcript else None
        self._background: list[subprocess.Popen[bytes]] = []

    def say(self, text: str) -> None:
        """A comment between commands."""
        self._write("\n" + "".join(f"# {line}\n" for line in text.splitlines()))

    def export(self, name: str, value: str, shown: str | None = None) -> None:
        """Set a variable for what follows."""
        self.environment[name] = value
        self._write(f"\n$ export {name}={shown or value}\n")

    def run(
        self, command: str, *, expect: int = 0, limit_s: float = 900.0, quiet: bool = False
    ) -> str:
        """Run it, show it, and return its output. AssertionError where its exit code is not
        `expect`; 124 is a timeout's."""
        show = (lambda text: None) if quiet else self._show
        show(f"\n$ {command}\n")
        began_s = time.monotonic()
        lines = []
        with self._start(f"timeout {limit_s:.0f} bash -c {_quoted(command)}") as process:
            assert process.stdout is not None
            for raw in process.stdout:
                line = _plain(raw)
                lines.append(line)
                show(line)
        took_s = time.monotonic() - began_s
        show(f"[exit {process.returncode}, {took_s:.0f} s]\n")
        assert process.returncode == expect, (
            f"`{command}`: expected exit code {expect}, got {process.returncode}"
        )
        return "".join(lines)

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Run it beside what follows; its output is shown when it has been waited for."""
        self._write(f"\n$ {command} &\n")
        process = self._start(f"exec {command}")
        self._background.append(process)
        return process

    def finish(self, process: subprocess.Popen[bytes], *, expect: int = 0) -> str:
        """Wait for a started command, and show what it said."""
        output, _ = process.communicate(timeout=1800)
        lines = [_plain(line) for line in output.splitlines(keepends=True)]
        for line in lines:
            self._show(line)
        text = "".join(lines)
        assert process.returncode == expect, f"expected {expect}, got {process.returncode}"
        return text

    def close(self) -> None:
        for process in self._background:
            process.terminate()
        if self._transcript:
            self._transcript.close()

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", f". ~/.bashrc 2>/dev/null; {command}"],
            cwd=self._cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _show(self, line: str) -> None:
        if line.startswith("\n$ ") or not _CHATTER.search(line.strip()):
            self._write(line)

    def _write(self, text: str) -> None:
        print(text, end="", flush=True)
        if self._transcript:
            self._transcript.write(text)
            self._transcript.flush()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _plain(raw: bytes) -> str:
    """A line as a screen would show it in the end: no colours, no overwritten beginnings."""
    text = _CONTROL.sub("", raw.decode(errors="replace")).rstrip("\r\n")
    return text.rpartition("\r")[2].rstrip() + "\n"
