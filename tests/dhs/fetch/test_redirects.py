"""The servers that a service may redirect to."""

from __future__ import annotations

import pytest

from dhs.fetch.redirects import Redirects

SERVICE = "https://a.org/viewer?x=1"


@pytest.mark.parametrize(
    ("service", "location", "expected"),
    [
        (SERVICE, "/other?y", "https://a.org/other?y"),
        (SERVICE, "other", "https://a.org/other"),
        (SERVICE, "//a.org/x", "https://a.org/x"),
        (SERVICE, "https://A.org:443/x", "https://A.org:443/x"),
        ("http://a.org/", "https://a.org/x", "https://a.org/x"),
        ("http://a.org:8000/", "https://a.org:8000/x", "https://a.org:8000/x"),
        ("http://[::1]:80/", "http://[::1]/x", "http://[::1]/x"),
    ],
)
def test_the_service_may_redirect_to_itself(service: str, location: str, expected: str) -> None:
    assert Redirects(service).follow(service, location) == expected


@pytest.mark.parametrize(
    ("service", "location", "server"),
    [
        (SERVICE, "https://b.org/x", "https://b.org"),
        (SERVICE, "//b.org/x", "https://b.org"),
        (SERVICE, "https://a.org.b.org/", "https://a.org.b.org"),
        (SERVICE, "https://a.org@b.org/", "https://b.org"),
        (SERVICE, "https://b.org\\@a.org/", "https://b.org"),
        (SERVICE, "https://a.org:8443/x", "https://a.org:8443"),
        (SERVICE, "http://a.org/x", "http://a.org"),
        (SERVICE, "http://a.org:443/x", "http://a.org:443"),
        ("http://a.org/", "http://127.0.0.1/", "http://127.0.0.1"),
        ("http://a.org:8000/", "https://a.org/", "https://a.org"),
    ],
)
def test_redirects_that_are_refused(service: str, location: str, server: str) -> None:
    with pytest.raises(ValueError, match="is not allowed; if you trust") as error:
        Redirects(service).follow(service, location)
    assert str(error.value).endswith(f"add --allow-redirect {server}.")
    assert Redirects(service, [server]).follow(service, location)
    assert Redirects(service, [f"{server}/", "http://c.org"]).follow(service, location)


def test_a_server_that_is_allowed_may_redirect_back() -> None:
    rule = Redirects(SERVICE, ["https://b.org"])
    assert rule.follow("https://b.org/x", "https://a.org/y") == "https://a.org/y"
    with pytest.raises(ValueError, match=r"from https://a\.org to https://c\.org"):
        rule.follow("https://b.org/x", "//c.org/y")


@pytest.mark.parametrize("location", ["ftp://a.org/", "http://[::", "http://", "file:///etc/x"])
def test_invalid_addresses_are_refused(location: str) -> None:
    with pytest.raises(ValueError, match="redirected to an invalid address"):
        Redirects(SERVICE).follow(SERVICE, location)


@pytest.mark.parametrize(
    "entry", ["b.org", "ftp://b.org", "https://b.org/x", "https://me@b.org", "https://", "*", ""]
)
def test_allowed_servers_are_checked(entry: str) -> None:
    with pytest.raises(ValueError, match=r"^allow_redirect=.* it must be a server, like https"):
        Redirects(SERVICE, [entry])


def test_a_text_is_not_a_list() -> None:
    with pytest.raises(TypeError, match="is not a list of addresses"):
        Redirects(SERVICE, "https://b.org")
    with pytest.raises(TypeError, match="allow_redirect=5 is not an address"):
        Redirects(SERVICE, [5])  # type: ignore[list-item]
