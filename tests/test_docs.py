"""The documentation's site: it builds without a network, and a broken link is an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-n",
        "-c",
        ROOT / "docs",
    ]
    return subprocess.run([*command, source, out], capture_output=True, text=True, check=False)


def test_the_site_builds_and_links_pages_to_each_other(tmp_path):
    done = build(ROOT, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "docs/experiment.html").read_text()
    assert 'href="../README.html#protocols"' in page
    assert "grid.yaml" in page
    assert {path.name for path in tmp_path.glob("_downloads/*/*")} >= {"grid.yaml", "gpu.yaml"}
    assert (tmp_path / "docs/glossary.html").is_file()
    assert "docs/index.html" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[x](nowhere.md)", "nowhere.md"),
        ("[x](other.md#nothing)", "nothing"),
        ("[x](../no-file.yaml)", "no-file.yaml"),
        ("![x](no-picture.png)", "no-picture.png"),
    ],
)
def test_a_broken_link_is_an_error(tmp_path, link, said):
    docs = tmp_path / "source/docs"
    docs.mkdir(parents=True)
    (docs / "index.md").write_text("# First\n\n```{toctree}\nother\n```\n")
    (docs / "other.md").write_text(f"# Other\n\n{link}\n")
    done = build(tmp_path / "source", tmp_path / "out")
    assert done.returncode == 1
    assert said in done.stderr


def test_every_page_is_in_the_sites_contents():
    contents = (ROOT / "docs/index.md").read_text().splitlines()
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages <= set(contents)


def test_hooks_and_workflow_name_what_there_is():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for hook in hooks["repos"][0]["hooks"]:
        assert shutil.which(Path(hook["entry"].split()[0]).name, path=Path(sys.executable).parent)
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["test"]["steps"]]
    assert any(step.startswith(".ci/run") for step in steps)
    assert (ROOT / ".ci/run").is_file()


def test_the_citation_is_of_this_version():
    import tomllib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["references"][0]["title"] == "Pruning in the Face of Adversaries"
