"""The page of the status as it is sent, without a browser."""

import re
from html.parser import HTMLParser

import msgspec
import pytest

from peruserd.core.processes.status import Opinion, PlanChange, Status
from peruserd.daemon.status_page import StatusPages, assembled
from tests.daemon.statuses import STATUS, evil_status
from tests.evil_names import EVIL, UNSERVABLE, harmful


class Parsed(HTMLParser):
    """The elements and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


TROUBLES = (
    "Nodes not connectedn2, n4",
    "couch_peruseris on at this node",
    "Threads that failcluster-watch",
    "The last reload was refusedx.toml: databse: unknown table",
)


def _page(status: Status) -> str:
    return StatusPages(lambda: status, lambda: b"").as_html().body.decode()


def test_the_policy_lets_only_the_page_itself_run() -> None:
    """A text that became markup all the same could do nothing."""
    answer = StatusPages(lambda: STATUS, lambda: b"").as_html()
    policy = dict(part.split(" ", 1) for part in dict(answer.headers)["Content-Security-Policy"].split("; "))
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy.pop("script-src"))
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy.pop("style-src"))
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    """It must work where there is no internet, and tell nobody that somebody looks."""
    page = _page(STATUS)
    links = [
        value for _, attributes in Parsed(page).tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(each is not None and each.startswith(("/", "#", "data:")) for each in links)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_all_parts_are_in_the_page() -> None:
    """A file that is missing in the package, or a place that has another name, would leave a page without a life."""
    page, _ = assembled()
    for place in ("/*STYLE*/", "/*SCRIPT*/", "/*KINDS*/"):
        assert place not in page
    assert "database_deleted" in page
    assert page.count("<!--PLAIN-->") == 1


def test_without_scripts_there_is_a_table_of_the_most_important() -> None:
    """It stands where only a browser without scripts shows it."""
    plan = PlanChange(0.0, ("node n3 is connected",), "listening to 2 of 2 ranges", "")
    status = msgspec.structs.replace(
        STATUS,
        ready=Opinion(ok=False, why="not caught up: x"),
        plans=(plan,),
        away=("n2", "n4"),
        couch_peruser=True,
        failing=("cluster-watch",),
        refused="x.toml: databse: unknown table",
    )
    page = _page(status)
    plain = page[page.index("<noscript>") : page.index("</noscript>")]
    text = Parsed(plain).text
    for words in (
        "node1@127.0.0.1",
        "active",
        "yes: ok",
        "no: not caught up: x",
        "held: 2",
        "node n3 is connected",
        *TROUBLES,
    ):
        assert words in text
    assert [tag for tag, _ in Parsed(plain).tags].count("tr") > 10


@pytest.mark.parametrize("text", [*EVIL.values(), *UNSERVABLE.values()], ids=[*EVIL, *UNSERVABLE])
def test_no_text_becomes_markup_or_steers(text: str) -> None:
    """Each name and each server's words are shown as they are, with escapes for what cannot be shown."""
    page = _page(evil_status(text))
    assert [tag for tag, _ in Parsed(page).tags] == [tag for tag, _ in Parsed(_page(evil_status("a"))).tags]
    assert not harmful(page)
