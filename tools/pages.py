"""What `mkdocs build` asks while it makes the site: which files are pages, and whether one fetches from elsewhere.

mkdocs calls the functions that begin with `on_` (`hooks:` in mkdocs.yml). Pages lie on the site as they lie in the
project, README.md as its first page, so that one set of links serves readers of both.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PROJECT = Path(__file__).resolve().parent.parent
TOP = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
FETCHES = {  # what a browser fetches by itself: elements with the attribute that says from where
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src",
    "object": "data", "link": "href", "image": "href",
}  # fmt: skip
NOT_FETCHED = {"canonical", "alternate", "prev", "next", "edit", "author", "license"}  # of <link rel=...>


def sources() -> list[str]:
    """Every file of the site by its place in the project: pages, what lies beside them, and files that they link to."""
    folder = PROJECT / "docs"
    found = [*TOP, *(file.relative_to(PROJECT).as_posix() for file in sorted(folder.rglob("*")) if file.is_file())]
    pages = [PROJECT / name for name in found if name.endswith(".md")]
    linked = {target for page in pages for target in _linked(page)}
    return [*found, *sorted(linked - set(found))]


def _linked(page: Path) -> set[str]:
    """The files of the project that a page links to."""
    text = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = [(page.parent / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)\s:]+)\)", text)]
    return {file.relative_to(PROJECT).as_posix() for file in targets if file.is_file() and PROJECT in file.parents}


class _Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._styled = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self._styled = tag == "style"
        wanted = said.get(FETCHES.get(tag, "")) or ""
        rel = set((said.get("rel") or "").split())
        if wanted and not (tag == "link" and rel <= NOT_FETCHED):
            self.found.append(wanted)
        self.found += [one.split()[0] for one in (said.get("srcset") or "").split(",") if one.strip()]
        self.found += in_styles(said.get("style") or "")

    def handle_data(self, data: str) -> None:
        if self._styled:
            self.found += in_styles(data)


def in_styles(text: str) -> list[str]:
    """What a style sheet makes a browser fetch."""
    return [
        one for pair in re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", text) for one in pair if one
    ]


def from_elsewhere(name: str, text: str) -> list[str]:
    """The addresses of other computers that this file of the site (page, style sheet, picture) is fetched from."""
    wanted = in_styles(text) if name.endswith(".css") else _Fetched(text).found
    return [one for one in wanted if re.match(r"(?:[a-z]+:)?//", one.strip(), re.IGNORECASE)]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put the project's pages in the place of those of docs/: each under its own path."""
    from mkdocs.structure.files import File, InclusionLevel

    for file in [one for one in files if one.src_dir == config.docs_dir]:
        files.remove(file)
    for name in sources():
        file = File(name, str(PROJECT), config.site_dir, use_directory_urls=False)
        if name.startswith("docs/decisions/0"):  # its list leads to each
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_post_build(*, config: MkDocsConfig) -> None:
    """Refuse a site of which a page fetches anything from elsewhere."""
    from mkdocs.exceptions import PluginError

    site = Path(config.site_dir)
    built = [file for kind in ("*.html", "*.css", "*.svg") for file in site.rglob(kind)]
    found = {file.relative_to(site): from_elsewhere(file.name, file.read_text()) for file in built}
    if wrong := [f"{file} fetches {', '.join(where)}" for file, where in found.items() if where]:
        raise PluginError("; ".join(wrong))
