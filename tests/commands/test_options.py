"""Options that belong to no single command."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.cli import main
from prunegrid.workers.revision import git_revision


def test_the_version_names_the_revision_that_rows_bear(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip().endswith(f" ({git_revision()})")
