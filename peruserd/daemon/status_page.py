"""The pages of the status: `/status.json`, and the page `/` for people.

The page is one HTML document with its style and its script in it, and asks for `/status.json` every few seconds. It is
put together from the files of the folder `page`, once. A strict Content-Security-Policy lets nothing else run: the
hashes of the style and of the script are in it, and no text of a status is ever parsed as markup. A browser without
scripts gets the most important facts as a table.
"""

import base64
import hashlib
import html
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Final

from peruserd.core.common.escaping import date, harmless, named, span
from peruserd.core.processes.status import Status
from peruserd.core.users.quarantine import KINDS
from peruserd.daemon.http_messages import OK, Answer

HTML: Final = "text/html; charset=utf-8"

_SCRIPTS: Final = ("dom.js", "drawing.js", "page.js")

# A table for people without scripts needs no more.
_MAX_PLAIN_ROWS: Final = 100

_PLACE: Final = "<!--PLAIN-->"


class StatusPages:
    """Shows the status that `latest` and `as_json` return."""

    def __init__(self, latest: Callable[[], Status], as_json: Callable[[], bytes]) -> None:
        self._latest = latest
        self.as_json = as_json

    def as_html(self) -> Answer:
        """Return the page."""
        page, policy = assembled()
        before, after = page.split(_PLACE)
        body = "".join((before, *_plain(self._latest()), after)).encode()
        headers = (
            ("Content-Security-Policy", policy),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("X-Frame-Options", "DENY"),
            ("Vary", "Accept"),
        )
        return Answer(OK, HTML, body, headers)


@cache
def assembled() -> tuple[str, str]:
    """Return the page without any status, and its Content-Security-Policy."""
    folder = resources.files("peruserd.daemon") / "page"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    style = read("page.css")
    # No end of a script can stand in it, because a slash after < is escaped.
    kinds = json.dumps(KINDS).replace("</", "<\\/")
    script = "".join(map(read, _SCRIPTS)).replace("/*KINDS*/{}", kinds)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    page = read("page.html").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    return page, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _plain(status: Status) -> Iterator[str]:
    yield "<table><caption>This instance</caption><tbody>"
    for name, value in _facts(status):
        yield f'<tr><th scope="row">{name}</th><td>{_text(value)}</td></tr>'
    yield "</tbody></table><table><caption>Its listeners</caption><thead><tr>"
    yield '<th scope="col">Copy</th><th scope="col">State</th><th scope="col">Waiting</th>'
    yield '<th scope="col">Quarantine</th></tr></thead><tbody>'
    for each in status.listeners[:_MAX_PLAIN_ROWS]:
        held = "" if each.on_hold is None else f", on hold: {each.on_hold}"
        state = f"{each.state.value}{'' if each.caught_up else ', not caught up'}{held}"
        cells = "".join(f"<td>{_text(str(value))}</td>" for value in (state, each.waiting or 0, each.quarantined or 0))
        yield f'<tr><th scope="row">{_text(each.copy)}</th>{cells}</tr>'
    yield "</tbody></table>"


def _facts(status: Status) -> Iterable[tuple[str, str]]:
    yield "Node", "not known yet" if status.node is None else named(status.node)
    yield "Version", status.version
    yield "At", date(status.time)
    yield "Running for", span(status.uptime)
    yield "Role", status.role.value
    yield "Healthy", f"{'yes' if status.healthy.ok else 'no'}: {status.healthy.why}"
    yield "Ready", f"{'yes' if status.ready.ok else 'no'}: {status.ready.why}"
    yield "Login", status.authentication.trouble or "let in"
    if status.away:
        yield "Nodes not connected", ", ".join(map(named, status.away[:_MAX_PLAIN_ROWS]))
    if status.couch_peruser:
        yield "couch_peruser", "is on at this node, and writes to the same databases"
    if status.refused is not None:
        yield "The last reload was refused", status.refused
    if status.failing:
        yield "Threads that fail", ", ".join(status.failing)
    yield "In quarantine", ", ".join(f"{kind}: {users}" for kind, users in status.quarantine.items()) or "nobody"
    if status.plans:
        newest = status.plans[0]
        yield "Last change of the plan", f"{date(newest.at)}: {'; '.join(newest.reasons)}"


def _text(text: str) -> str:
    """Return words as the text of an element, with characters that steer or hide shown as escapes."""
    return html.escape(harmless(text))
