"""The settings that `mkdocs.yaml` can't hold: which files are pages, where links to sources lead,
and that the site loads nothing from another host.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown import Markdown
from markdown.extensions import Extension
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Files that the site has besides the pages of the navigation. If the navigation does not name a
# page of `docs`, mkdocs warns, and the warning ends the build.
BESIDE_NAVIGATION = ("docs/*.md", "docs/images/*", "benchmarks/results/*.svg")
# `make docs` names the file with Mermaid. Without it, the theme would load Mermaid from another
# host.
MERMAID = Path(os.environ["MERMAID"])
MERMAID_ON_SITE = "assets/javascripts/mermaid.min.js"
# The address of a link or a picture in Markdown, up to its anchor.
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#\s])")
_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
# Hosts from which the theme's script loads Mermaid, a shim for old browsers, and figures about a
# repository.
_HOST = re.compile(r"https://(?:unpkg\.com|api\.github\.com)/")


class _GitHubLists(Extension):  # type: ignore[misc]  # the library has no types
    """Indents the contents of a list by the width of its marker, as GitHub's Markdown does."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Sets the length of an indent before other extensions change the parser."""
        md.tab_length = 2
        md.build_parser()  # block parsers store the length when they are built


def on_config(config: Any) -> Any:
    """Adds the extension that reads lists as GitHub does."""
    # before the extensions that add to the parser
    config.markdown_extensions.insert(0, _GitHubLists())
    return config


def on_files(files: Files, config: Any) -> Files:
    """Replaces the files of `docs` with pages of the whole repository. The path of a page on the
    site is its path in the repository.
    """
    found = [file for file in files if file.src_dir != config.docs_dir]
    paths = {ROOT / name for name in _names(config.nav)}
    paths |= {path for pattern in BESIDE_NAVIGATION for path in ROOT.glob(pattern)}
    for path in sorted(path for path in paths if path.exists()):
        name = path.relative_to(ROOT).as_posix()
        found.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    found.append(File.generated(config, MERMAID_ON_SITE, abs_src_path=str(MERMAID)))
    return Files(found)


def _names(navigation: Any) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(navigation, str):
        yield navigation
    else:
        inner = navigation.values() if isinstance(navigation, dict) else navigation
        for part in inner:
            yield from _names(part)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Makes links to files that are not pages lead to the sources. Raises PluginError if a link
    leads to no file.
    """
    here = posixpath.dirname(page.file.src_uri)

    def lead(found: re.Match[str]) -> str:
        link = found[1]
        name = posixpath.normpath(posixpath.join(here, link))
        if "://" in link or link.startswith("mailto:") or files.get_file_from_path(name):
            return link
        path = ROOT / name
        if not path.exists():
            raise PluginError(f"{page.file.src_uri}: {link} leads to no file")
        return f"{config.extra['sources']}/{'tree' if path.is_dir() else 'blob'}/main/{name}"

    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_LINK.sub(lead, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(lead, markdown[end:])])


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Makes a page with a diagram load the site's own Mermaid."""
    if '<pre class="mermaid">' not in output:
        return output
    up = posixpath.relpath(MERMAID_ON_SITE, posixpath.dirname(page.file.dest_uri) or ".")
    before, scripts, after = output.rpartition("<script src=")
    return f'{before}<script src="{up}"></script>{scripts}{after}'


def on_post_build(config: Any) -> None:
    """Removes the addresses of other hosts from the theme's script."""
    [script] = Path(config.site_dir, "assets", "javascripts").glob("bundle.*.min.js")
    text, changes = _HOST.subn("not-on-this-site/", script.read_text("utf-8"))
    if not changes:
        raise PluginError("the theme's script names no other host any more: remove this step")
    script.write_text(text, "utf-8")
