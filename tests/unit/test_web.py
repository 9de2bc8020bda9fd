"""HTTP clients beside the user's proxies, and pages that are no answers."""

from __future__ import annotations

import pytest

from orchestrator.words import web
from orchestrator.words.errors import UsageError

PAGE = """<!DOCTYPE html><html><head><title>502 Bad &amp; Gateway</title><style>p {}</style></head>
<body><h1>Oops</h1><p>try
later</p><script>alert(1)</script></body></html>"""


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v2", "http://localhost:1", "http://[::1]:9"])
def test_no_proxy_stands_before_this_computer(url: str, monkeypatch: pytest.MonkeyPatch):
    """A rehearsal works whatever proxy the user has, also one that no client here could use."""
    monkeypatch.setenv("all_proxy", "socks5h://127.0.0.1:1")
    web.client(url).close()


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:1", "gopher://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch):
    """Exit code 2 with the variable, where the internet is to be reached."""
    monkeypatch.setenv("all_proxy", proxy)
    for url in (None, "https://api.example.com"):
        with pytest.raises(UsageError, match=f"all_proxy={proxy} cannot be used"):
            web.client(url)


def test_a_page_is_read_as_a_person_would():
    """Title and text, without tags, scripts and styles; what is no page stays as it is."""
    assert web.readable(PAGE) == "502 Bad & Gateway: Oops try later"
    assert web.readable(" a < b and b > c ") == "a < b and b > c"
    assert web.readable('{"error": "<no>"}') == '{"error": "<no>"}'
