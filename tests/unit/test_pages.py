"""The pages as a site: which they are, where each is found, and that none fetches anything from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """tools/pages.py, as mkdocs loads it: by its path."""
    found = importlib.util.spec_from_file_location("gpuplan_pages", PROJECT / "tools" / "pages.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_page_has_its_place(pages: ModuleType):
    """mkdocs.yml leads to each page of the project but for single decisions, which their list leads to."""
    placed = _leaves(yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"])
    wanted = {name for name in pages.sources() if name.endswith(".md") and not name.startswith("docs/decisions/0")}
    assert wanted <= set(placed), wanted - set(placed)
    assert set(placed) <= set(pages.sources())
    assert len(placed) == len(set(placed))


def _leaves(nav: object) -> list[str]:
    if isinstance(nav, list | dict):
        return [leaf for one in (nav.values() if isinstance(nav, dict) else nav) for leaf in _leaves(one)]
    return [str(nav)]


def test_what_pages_link_to_is_on_the_site(pages: ModuleType):
    """Pictures, the report's example, and files of the project that a page names."""
    wanted = {"docs/run.svg", "docs/report-example.html", "docs/dashboard.png", "configs/example.yaml", "LICENSE"}
    assert wanted <= set(pages.sources())


@pytest.mark.parametrize(
    ("name", "text", "fetched"),
    [
        ("a.html", '<img src="https://x.test/a.png">', ["https://x.test/a.png"]),
        ("a.html", '<script src="//x.test/a.js"></script>', ["//x.test/a.js"]),
        ("a.html", '<link rel="stylesheet" href="HTTPS://fonts.test/css">', ["HTTPS://fonts.test/css"]),
        ("a.html", '<link rel="preconnect" href="https://fonts.test">', ["https://fonts.test"]),
        ("a.html", '<img srcset="a.png 1x, https://x.test/b.png 2x">', ["https://x.test/b.png"]),
        ("a.html", "<style>body{background:url('http://x.test/b')}</style>", ["http://x.test/b"]),
        ("a.html", '<p style="background:url(http://x.test/b)">', ["http://x.test/b"]),
        ("a.css", '@import "https://x.test/c.css"; a{b:url(d.png)}', ["https://x.test/c.css"]),
        ("a.svg", '<svg><image href="https://x.test/d.png"/></svg>', ["https://x.test/d.png"]),
        ("a.html", '<a href="https://x.test">link</a><img src="b.png"><script>let a = "https://x.test"</script>', []),
        ("a.html", '<link rel="canonical" href="https://x.test/"><img src="data:image/png;base64,AA">', []),
    ],
)  # fmt: skip
def test_what_is_fetched_from_elsewhere_is_seen(pages: ModuleType, name: str, text: str, fetched: list[str]):
    """Scripts, styles, letters and pictures of other computers; a link that somebody may follow is none."""
    assert pages.from_elsewhere(name, text) == fetched


def test_nothing_of_ours_is_fetched_from_elsewhere(pages: ModuleType):
    """The pictures and the example of a report that lie beside the pages."""
    for name in pages.sources():
        if name.endswith((".svg", ".html")):
            assert pages.from_elsewhere(name, (PROJECT / name).read_text()) == []


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="mkdocs is not installed: the extra [docs]")
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path):
    """Of a site with a page and a heading that are not there, `make check` says these two and nothing else."""
    folder = tmp_path / "project"
    ignore = shutil.ignore_patterns(".*", "build", "tests", "orchestrator", "remote", "__pycache__")
    shutil.copytree(PROJECT, folder, ignore=ignore)
    page = folder / "docs" / "costs.md"
    page.write_text(f"{page.read_text()}\n[nowhere](nowhere.md) [nothing](safety.md#nothing)\n")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"} | nowhere
    done = subprocess.run(build, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
    assert len(said) == 2, done.stderr
    assert "nowhere.md" in said[0]
    assert "#nothing" in said[1]
    for name in ("index.html", "docs/reference.html", "docs/report-example.html", "configs/example.yaml"):
        assert (folder / "build" / "site" / name).is_file()
