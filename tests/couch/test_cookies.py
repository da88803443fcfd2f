import base64

import pytest

from peruserd.core.common.secret import Secret
from peruserd.couch.cookies import is_anothers, session_cookie


@pytest.mark.parametrize(
    ("headers", "value", "lifetime"),
    [
        (["AuthSession=YWRt-_; Version=1; Max-Age=600; Path=/; HttpOnly"], "YWRt-_", 600.0),
        (["AuthSession=abc; Expires=Thu, 26-Nov-2026 19:56:15 GMT; max-age=60"], "abc", 60.0),
        (["other=1; Path=/", "AuthSession=abc; Version=1"], "abc", None),
        (["AuthSession=abc"], "abc", None),
    ],
)
def test_a_session_is_found_among_other_cookies(headers: list[str], value: str, lifetime: float | None) -> None:
    """The session has its lifetime, if the server says so."""
    found = session_cookie(headers)
    assert found is not None
    assert (found.value.value, found.lifetime_seconds) == (value, lifetime)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "AuthSession=; Version=1",
        "AuthSession",
        "authsession=abc",
        "XAuthSession=abc",
        'AuthSession="abc"',
        "AuthSession=a b",
        "AuthSession=a,b",
        "AuthSession=a\rX: y",
        "AuthSession=é",
        f"AuthSession={'a' * 5000}",
        "other=AuthSession=abc",
    ],
)
def test_what_is_no_session_is_passed_over(header: str) -> None:
    """The end of a session, another name, and invalid characters give no session."""
    assert session_cookie([header]) is None


@pytest.mark.parametrize("age", ["-1", "x", "1.5", "99999999999"])
def test_a_lifetime_that_is_no_number_is_not_known(age: str) -> None:
    """The lifetime is unknown, and the session is valid."""
    found = session_cookie([f"AuthSession=abc; Max-Age={age}"])
    assert found is not None
    assert found.lifetime_seconds is None


def _cookie(account: bytes) -> Secret:
    content = account + b":6A6B6C6D:" + bytes(range(20))
    return Secret(base64.urlsafe_b64encode(content).decode().rstrip("="))


def test_a_session_of_another_account_is_told_apart() -> None:
    """CouchDB's cookies have the name of the account. A cookie of another form tells nothing."""
    assert not is_anothers(_cookie(b"adm"), _cookie(b"adm"))
    assert is_anothers(_cookie(b"mallory"), _cookie(b"adm"))
    assert is_anothers(_cookie("ådm".encode()), _cookie(b"adm"))
    for odd in ("abc", "a", "%", "YWRtOm5vdGltZQ"):
        assert not is_anothers(Secret(odd), _cookie(b"adm"))
        assert not is_anothers(_cookie(b"adm"), Secret(odd))
