"""The checks of `make docs` find their faults: they run on small sites that are broken on
purpose.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.docs_site import check
from tests.support.backends import missing

ELSEWHERE = "https://cdn.example/x"
PAGE = "<html><body><article><p>Here.</p></article>{}</body></html>"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", PAGE.format(f'<script src="{ELSEWHERE}.js"></script>')),
        ("a.html", PAGE.format('<img src="//cdn.example/x.png">')),
        ("a.html", PAGE.format(f'<source srcset="{ELSEWHERE}.png">')),
        ("a.html", PAGE.format(f'<iframe src="{ELSEWHERE}"></iframe>')),
        ("a.html", f'<head><link rel="stylesheet" href="{ELSEWHERE}.css"></head>'),
        ("a.html", f'<head><link rel="preconnect" href="{ELSEWHERE}"></head>'),
        ("assets/a.css", f"@import url('{ELSEWHERE}.css');"),
        ("assets/a.css", f"a {{ background: url({ELSEWHERE}.png) }}"),
        ("assets/bundle.1.min.js", f'load("{ELSEWHERE}.js")'),
    ],
)
def test_content_from_another_host_is_found(name: str, text: str, tmp_path: Path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    [found] = check.foreign_addresses(tmp_path)
    assert found.startswith(f"{name}: ")
    assert "cdn.example/x" in found


def test_links_and_own_files_are_no_faults(tmp_path: Path):
    (tmp_path / "a.html").write_text(
        PAGE.format(f'<a href="{ELSEWHERE}">x</a><img src="../a.png"><script src="b.js"></script>')
    )
    assert list(check.foreign_addresses(tmp_path)) == []


def test_a_page_that_looks_different_from_github_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(check, "ROOT", tmp_path / "tree")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "README.md").write_text("1. One\n\n   ```sh\n   ls\n   ```\n\n2. Two\n")
    site = tmp_path / "site"
    site.mkdir()
    item = "<li><p>One</p><pre>ls</pre></li>"
    (site / "index.html").write_text(f"<article><ol>{item}<li>Two</li></ol></article>")
    assert list(check.different_pages(site)) == []
    (site / "index.html").write_text(f"<article><ol>{item}</ol><ol><li>Two</li></ol></article>")
    assert list(check.different_pages(site)) == ["index.html: 2 <ol>, and 1 on GitHub"]


def test_the_browser_notices_a_request_elsewhere_and_a_missing_diagram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        missing("chromium with chromedriver")
    monkeypatch.setattr(check, "PATIENCE_SECONDS", 1)
    # No name server knows this host. The script makes the request itself, which no scan of
    # addresses can see.
    script = "fetch(['http:', '', 'cdn.invalid', 'x'].join('/')).catch(() => 0)"
    text = PAGE.format(f'<pre class="mermaid">graph</pre><script>{script}</script>')
    (tmp_path / "index.html").write_text(text)
    assert list(check.foreign_addresses(tmp_path)) == []
    found = {fault.splitlines()[0] for fault in check.requests_elsewhere(tmp_path)}
    assert found == {
        "index.html: a diagram is not drawn",
        "index.html: the search finds nothing",
        "index.html: http://cdn.invalid/x",
    }
