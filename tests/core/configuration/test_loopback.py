"""Hosts and origins of requests to a page that is for this machine alone."""

import pytest

from peruserd.core.configuration.loopback import host_problem, is_from_elsewhere, is_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("app.localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - an address to tell apart
        ("::", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_names_that_look_like_it(host: str, *, expected: bool) -> None:
    """A name that only begins or ends like a loopback one is anybody's."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:9984"},
        {"host": "[::1]:9984"},
        {"host": "localhost"},
        {"host": "localhost:9984", "origin": "http://localhost:3000"},
        {"host": "localhost:9984", "sec-fetch-site": "same-origin"},
        {"host": "localhost:9984", "sec-fetch-site": "none"},
    ],
)
def test_programs_and_pages_of_this_machine_are_let_in(headers: dict[str, str]) -> None:
    """A script names the loopback address; so does a page that is served from it."""
    assert is_from_elsewhere(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example.org:9984"},
        {"host": ""},
        {"host": "[::1"},
        {"host": "user@evil.example.org"},
        {"host": "127.0.0.1:9984@evil.example.org"},
        {"host": "localhost:9984", "origin": "https://evil.example.org"},
        {"host": "localhost:9984", "origin": "null"},
        {"host": "localhost:9984", "sec-fetch-site": "cross-site"},
        {"host": "localhost:9984", "sec-fetch-site": "Same-Site"},
        {"host": "localhost:9984", "x-forwarded-for": "10.0.0.7"},
        {"host": "localhost:9984", "forwarded": "for=10.0.0.7"},
        {"host": "localhost:9984", "via": ""},
    ],
)
def test_a_web_site_cannot_ask_through_a_browser(headers: dict[str, str]) -> None:
    """A site cannot ask by its own name for the loopback address, nor by a page that names the address."""
    assert is_from_elsewhere(headers)


@pytest.mark.parametrize("host", ["", "localhost", "localhost:9984", "127.0.0.1:", "[::1]:9984", "é"])
def test_one_host_is_read_as_the_standard_has_it(host: str) -> None:
    """An empty one is allowed, and letters outside of ASCII are not."""
    assert (host_problem([host], needs_host=True) is None) is (host != "é")


@pytest.mark.parametrize(
    "hosts",
    [["localhost", "localhost"], ["localhost", "evil.example.org"], ["localhost:1,evil.example.org"], ["a b"], ["a@b"]],
)
def test_hosts_that_two_readers_can_read_in_two_ways_are_refused(hosts: list[str]) -> None:
    """A proxy may have gone by the one, and this program by the other."""
    assert host_problem(hosts, needs_host=True) is not None
    assert host_problem(hosts, needs_host=False) is not None


def test_a_host_may_be_missing_before_http_1_1() -> None:
    """Health checks of load balancers speak HTTP/1.0."""
    assert host_problem([], needs_host=False) is None
    assert host_problem([], needs_host=True) is not None
