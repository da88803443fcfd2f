"""The page of the status in a headless Chromium."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from peruserd.core.common.names import database_name
from peruserd.core.processes.status import Status, encode_status
from peruserd.daemon.http import Page
from peruserd.daemon.http_server import HTTPServer
from peruserd.daemon.status_page import StatusPages
from tests.daemon.statuses import STATUS, evil_status
from tests.evil_names import EVIL, UNSERVABLE, harmful
from tests.system.browser import Browser, open_browser
from tests.system.daemon import Daemon
from tests.system.target import PREFIX, Target
from tests.waiting import eventually

# The words of each visible element that has a text of its own, with its colours. The contrast of a mixed colour cannot
# be told, so the page has none.
TEXTS = """
const shown = [];
for (const element of document.body.querySelectorAll("*")) {
  if (element.closest("svg, noscript, .unseen, script, style")) continue;
  const own = [...element.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
  if (!own || !element.checkVisibility() || element.closest("thead")) continue;
  let behind = element, back = "rgba(0, 0, 0, 0)";
  while (behind && back === "rgba(0, 0, 0, 0)") {
    back = getComputedStyle(behind).backgroundColor;
    behind = behind.parentElement;
  }
  const style = getComputedStyle(element);
  shown.push([element.innerText.slice(0, 60), style.color, back, style.opacity]);
}
return shown;
"""

# Shows a status, and returns what can be seen then: the words, the elements, and the title.
SHOW = """
show(arguments[0]);
// A long name has places where a line can be broken.
const elements = [...document.querySelectorAll("*:not(wbr)")].map((each) => each.tagName).join(" ");
return [document.body.innerText, elements, document.title, document.documentElement.scrollWidth];
"""

TAB, ENTER = "\ue004", "\ue007"

DESCRIBED = """
const element = document.activeElement;
return element === document.body ? "" : (element.innerText || element.id).trim();
"""

UNLABELLED = """
const wrong = [];
for (const table of document.querySelectorAll("#live table")) {
  if (!table.caption || !table.caption.textContent) wrong.push("no caption: " + table.outerHTML.slice(0, 80));
  for (const cell of table.querySelectorAll("th")) if (!cell.scope) wrong.push("no scope: " + cell.innerText);
}
for (const section of document.querySelectorAll("section")) {
  if (!document.getElementById(section.getAttribute("aria-labelledby"))) wrong.push("no label: " + section.id);
}
for (const drawing of document.querySelectorAll("svg")) {
  if (drawing.getAttribute("role") !== "img" || !drawing.getAttribute("aria-label")) wrong.push("a drawing");
}
const levels = [...document.querySelectorAll("h1, h2, h3")].map((each) => each.tagName).join(" ");
if (!/^H1( H2)+$/.test(levels)) wrong.push(levels);
for (const landmark of ["header", "main", "nav", "footer"]) {
  if (document.querySelectorAll("body > " + landmark + ", #live > " + landmark).length !== 1) wrong.push(landmark);
}
return wrong;
"""


@pytest.fixture(scope="module")
def shared_browser(need_tool: Callable[[str], str]) -> Iterator[Browser]:
    """Run one browser for all tests of this page."""
    for tool in ("chromium", "chromedriver"):
        need_tool(tool)
    with open_browser() as opened:
        yield opened


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """Give the browser without a page. The page of an earlier test asks a server that is gone, and complains."""
    shared_browser.go("about:blank").messages()
    return shared_browser


@contextmanager
def _showing(status: list[Status]) -> Iterator[str]:
    """Serve the page of the last of these statuses; more can be added while it is shown.

    The page complains as soon as this server is gone, so the messages of a browser are looked at before that.
    """
    pages = StatusPages(lambda: status[-1], lambda: encode_status(status[-1]))
    page = Page(CollectorRegistry(), healthy=lambda: (True, ""), ready=lambda: (True, ""), status=pages)
    server = HTTPServer(page, "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.stop()


def _is_live(browser: Browser) -> bool:
    found: bool = browser.run("return !document.getElementById('live').hidden")
    return found


def _luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [float(each) / 255 for each in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(first: str, second: str) -> float:
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_page_follows_a_running_instance(
    browser: Browser, one_node: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """It shows what happens without a reload, says since when nobody answers, and has nothing to complain about.

    On the simulated cluster, or on the real one that PERUSERD_TEST_CLUSTER names.
    """
    daemon = make_daemon(
        url=one_node.urls[0],
        username=one_node.username,
        password=one_node.password,
        config={"databases": {"when_deleted": "report"}},
    ).start()
    daemon.wait_until_ready()
    browser.show_as(width=1280)
    browser.go(daemon.http)
    eventually(lambda: _is_live(browser), "the page shows the status")
    assert browser.run("return document.querySelectorAll('#listeners-t tbody tr').length") == 2
    assert browser.run("return document.querySelectorAll('#ranges-t tbody tr').length") == 2
    names = one_node.serve(5)
    one_node.request("DELETE", f"/{database_name(PREFIX, names[0])}").raise_for_status()
    eventually(lambda: "database_deleted" in browser.text("#quarantine-t"), "the page shows the quarantine")
    eventually(lambda: "5 users served" in browser.text("#latency-now"), "the page shows the sign-ups")
    assert browser.run("return document.querySelectorAll('#curve circle').length") > 0
    assert "1 user in quarantine until somebody acts" in browser.text("#troubles")
    assert "the first plan after the start" in browser.text("#plans-l")
    assert not any(name in browser.text("body") for name in names)
    assert browser.messages() == []
    daemon.stop()
    eventually(lambda: "has not answered since" in browser.text("#gone"), "the page says that nobody answers")
    assert browser.run("return document.title").startswith("✕ no answer")
    assert all("ERR_CONNECTION_REFUSED" in each for each in browser.messages())


def test_no_text_becomes_markup(browser: Browser) -> None:
    """All evil texts in all places are shown as texts, and what could steer or hide is shown as an escape."""
    with _showing([evil_status("a")]) as url:
        browser.show_as(width=320)
        browser.go(url)
        eventually(lambda: _is_live(browser), "the page shows the status")
        _, expected, *_ = browser.run(SHOW, json.loads(encode_status(evil_status("a"))))
        for number, text in enumerate([*EVIL.values(), *filter(None, UNSERVABLE.values())]):
            version = f"number {number}"
            fields = json.loads(encode_status(evil_status(text))) | {"version": version}
            shown, structure, title, width = browser.run(SHOW, fields)
            assert version in shown
            assert structure == expected, text
            assert width <= 320, text
            assert title.endswith(" · peruserd"), text
            assert not harmful(shown.replace("\t", " ") + title), text
        assert browser.messages() == []


def test_a_refused_reload_and_a_node_without_an_instance_need_attention(browser: Browser) -> None:
    """Both have an alert, so the page must not say that nothing needs attention."""
    with _showing([STATUS]) as url:
        browser.go(url)
        eventually(lambda: _is_live(browser), "the page shows the status")
        alone = msgspec.structs.replace(
            STATUS, nodes=(STATUS.node or "", "n2", "n3"), refused="x.toml: databse: unknown"
        )
        browser.run(SHOW, json.loads(encode_status(alone)))
        said = browser.text("#troubles")
        assert "The last reload was refused" in said
        assert "x.toml: databse: unknown" in said
        assert "No instance is alive beside n2" in said
        assert f"beside {STATUS.node}" not in said
        # A package that is replaced brings the new page to the old daemon, whose status has no such field.
        older = json.loads(encode_status(alone))
        del older["refused"]
        browser.run(SHOW, older)
        assert "The last reload was refused" not in browser.text("#troubles")
        # Where not all leases are known, nothing is said of those that may be missing.
        blind = msgspec.structs.replace(alone, leases_readable=False)
        browser.run(SHOW, json.loads(encode_status(blind)))
        assert "No instance is alive beside" not in browser.text("#troubles")


def test_a_huge_cluster_is_shown_in_part(browser: Browser) -> None:
    """A thousand ranges and listeners make no page that nobody can load, and the page says how many are missing."""
    width = (1 << 32) // 1_024
    ranges = tuple(
        msgspec.structs.replace(
            STATUS.ranges[0], range=f"{number * width:08x}", begin=number * width, end=(number + 1) * width - 1
        )
        for number in range(1_024)
    )
    with _showing([msgspec.structs.replace(STATUS, ranges=ranges, listeners=STATUS.listeners * 1_024)]) as url:
        browser.go(url)
        eventually(lambda: _is_live(browser), "the page shows the status")
        for place in ("#ranges-t", "#listeners-t"):
            assert browser.run("return document.querySelectorAll(`${arguments[0]} tbody tr`).length", place) == 300
            assert "and 724 more in /status.json" in browser.text(place)
        assert browser.messages() == []


def test_it_can_be_read_by_a_screen_reader_and_used_by_keyboard(browser: Browser) -> None:
    """Headings, landmarks and tables have their words, and Tab goes through all that can be used, from above."""
    with _showing([STATUS]) as url:
        browser.show_as(width=1280)
        browser.go(url)
        eventually(lambda: _is_live(browser), "the page shows the status")
        assert browser.run(UNLABELLED) == []
        assert browser.text("#announce").startswith("Healthy, ready, ")
        reached = []
        while (described := _tabbed(browser)) and described not in reached:
            reached.append(described)
        sections = ["Ranges", "Listeners", "Sign-ups", "Quarantine", "Deletions", "Audit", "Instances"]
        assert reached == [
            "Skip to the status",
            "Pause updates",
            *sections,
            "Changes of plan",
            "Counters",
            "The figures of the curve",
            "All counters and failures",
            "/status.json",
            "/metrics",
            "/healthz",
            "/readyz",
        ]
        # The focus survives the updates: nothing that has it is ever replaced.
        browser.run("document.getElementById('pause').focus()")
        browser.press(ENTER)
        assert browser.run("return document.activeElement.getAttribute('aria-pressed')") == "true"
        assert browser.text("#pause") == "Go on with updates"
        assert browser.messages() == []


def _tabbed(browser: Browser) -> str:
    browser.press(TAB)
    described: str = browser.run(DESCRIBED)
    return described


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_on_a_telephone_and_in_the_dark(browser: Browser, *, dark: bool) -> None:
    """Nothing is wider than a small screen, and each text stands out from what is behind it (WCAG 2, 4.5 to 1)."""
    name = "couchdb@a-rather-long-name-of-a-machine.in-a-cluster.example.org"
    in_trouble = msgspec.structs.replace(
        evil_status(name), quarantine={"database_deleted": 1}, couch_peruser=True, unreadable=("00000000-7fffffff",)
    )
    for status in (STATUS, in_trouble):
        with _showing([status]) as url:
            browser.show_as(width=320, dark=dark, calm=True)
            browser.go(url)
            eventually(lambda: _is_live(browser), "the page shows the status")
            browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
            assert browser.run("return document.documentElement.scrollWidth") <= 320
            texts = browser.run(TEXTS)
            assert len(texts) > 50
            assert {opacity for *_, opacity in texts} == {"1"}
            faint = [each for each in texts if _contrast(each[1], each[2]) < 4.5]
            assert faint == []
            assert browser.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (_luminance(background) < 0.1) is dark


def test_without_scripts_there_is_a_table(browser: Browser) -> None:
    """A text browser, or a person who switches scripts off, sees the most important."""
    with _showing([STATUS]) as url:
        browser.without_scripts(off=True)
        try:
            browser.go(url)
            shown = browser.text("noscript")
        finally:
            browser.without_scripts(off=False)
    assert "yes: ok" in shown
    assert "held: 2" in shown
