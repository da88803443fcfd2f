"""The demo's display: a table that redraws on a terminal, plain lines elsewhere, nothing with `--json`."""

import sys
import time
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_LINE_SECONDS: Final = 1.0
_REDRAWS_A_SECOND: Final = 8


class ListenerPicture(msgspec.Struct, frozen=True):
    """One listener at one moment: its range, instance and state, its progress, and its restarts."""

    range: str
    instance: str
    state: str
    caught_up: bool
    checkpoint: int
    waiting: int
    restarts: int


class Picture(msgspec.Struct, frozen=True):
    """The demo at one moment. `owned` and `created` count by instance; latencies are in milliseconds."""

    seconds: float
    signed_up: int
    users: int
    served: int
    p50_ms: float | None
    p99_ms: float | None
    listeners: tuple[ListenerPicture, ...]
    owned: dict[str, int]
    created: dict[str, int]


class Show(Protocol):
    """Shows pictures and events while its context lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def draw(self, picture: Picture) -> None:
        """Show the present picture."""

    def show_event(self, event: str) -> None:
        """Show an event."""


def choose_show(*, silent: bool) -> Show:
    """Return the show for the kind of output."""
    if silent:
        return Silence()
    return TerminalShow() if sys.stdout.isatty() else LineShow()


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def draw(self, picture: Picture) -> None:
        """Show nothing."""

    def show_event(self, event: str) -> None:
        """Show nothing."""


class LineShow(Silence):
    """Prints a line a second while something changes, and a line for each event."""

    def __init__(self) -> None:
        self._last = 0.0
        self._drawn: Picture | None = None

    def draw(self, picture: Picture) -> None:
        """Print a line, if the last one is a second old and shows something else."""
        news = msgspec.structs.replace(picture, seconds=0.0)
        if news == self._drawn or time.monotonic() - self._last < _LINE_SECONDS:
            return
        self._last = time.monotonic()
        self._drawn = news
        running = sum(each.state == "running" for each in picture.listeners)
        print(
            f"{picture.seconds:6.1f} s  signed up {picture.signed_up:>5}/{picture.users}  served {picture.served:>5}  "
            f"latency p50 {_ms(picture.p50_ms)} p99 {_ms(picture.p99_ms)}  "
            f"listeners {running}/{len(picture.listeners)} running",
            flush=True,
        )

    def show_event(self, event: str) -> None:
        """Print the event."""
        print(f"          {event}", flush=True)


class TerminalShow(Silence):
    """A table that redraws in place, with the events below it."""

    _KEPT_EVENTS: Final = 8

    def __init__(self) -> None:
        self._events: list[str] = []
        self._live = Live(console=Console(), refresh_per_second=_REDRAWS_A_SECOND)

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture standing."""
        self._live.stop()

    def draw(self, picture: Picture) -> None:
        """Redraw."""
        self._live.update(Group(_summary(picture), _listeners(picture), *(Text(event) for event in self._events)))

    def show_event(self, event: str) -> None:
        """Add an event below the table."""
        self._events = [*self._events, event][-self._KEPT_EVENTS :]


def _summary(picture: Picture) -> Text:
    return Text.assemble(
        ("peruserd demo", "bold"),
        f"   {picture.seconds:.1f} s   signed up {picture.signed_up}/{picture.users}   served ",
        (str(picture.served), "bold green" if picture.served == picture.signed_up else "bold yellow"),
        f"   sign-up to secured: p50 {_ms(picture.p50_ms)}, p99 {_ms(picture.p99_ms)}",
    )


def _listeners(picture: Picture) -> Table:
    """Return a table with a row for each range and a column for each instance; the last row counts owned and made."""
    instances = sorted(picture.owned)
    table = Table(title="listeners: state, changes done, waiting, restarts", title_justify="left")
    table.add_column("range")
    for instance in instances:
        table.add_column(instance)
    cells = {(each.range, each.instance): each for each in picture.listeners}
    for name in sorted({each.range for each in picture.listeners}):
        table.add_row(name, *(_cell(cells.get((name, instance))) for instance in instances))
    table.add_section()
    table.add_row(
        "owned → made", *(f"{picture.owned[each]} → {picture.created.get(each, 0)} databases" for each in instances)
    )
    return table


def _cell(listener: ListenerPicture | None) -> Text:
    if listener is None:
        return Text("-", style="dim")
    well = listener.state == "running" and listener.caught_up
    style = "green" if well else "yellow" if listener.state in ("running", "starting") else "bold red"
    restarts = f"  ↻{listener.restarts}" if listener.restarts else ""
    return Text(f"{listener.state}  {listener.checkpoint}  {listener.waiting or ''}{restarts}", style=style)


def _ms(value: float | None) -> str:
    return "    -" if value is None else f"{value:.0f} ms"
