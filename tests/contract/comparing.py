"""Comparing an answer with a recorded one, where names, revisions and other chance differ."""

import json
import re
from collections.abc import Iterator
from typing import Any

NODE = re.compile(r"node[123]@127\.0\.0\.1")
REV = re.compile(r"\d+-[0-9a-f]{32}")
HASH = re.compile(r"(?<=\")[0-9a-f]{32}(?=\")")
SUFFIX = re.compile(r"(?<=\.)\d{10}(?!\d)")

# Text that differs by chance; its look is compared.
CHANCE = (
    re.compile(r"001-[0-9a-f]{64}"),
    re.compile(r"\d+-[A-Za-z0-9_-]{12,}"),
    re.compile(r"-pbkdf2:sha256-[0-9a-f]{64},[0-9a-f]{32},\d+"),
)

# Values that depend on chance, on the server's build or on the moment: compared by type alone.
BY_TYPE = {
    *("uuid", "git_sha", "version", "features", "vendor"),
    *("instance_start_time", "purge_seq", "sizes", "disk_format_version"),
    *("salt", "derived_key", "iterations", "ref"),
    *("start_time", "update_time", "timestamp"),
}
# Lists in whose order the nodes' answers arrive.
ANY_ORDER = {"changelog", "jobs"}
HEADERS = ("Content-Type", "ETag", "Location", "Set-Cookie")


class Comparison:
    """Compares answers with recorded ones, and learns the new name of each recorded name.

    `strict` also compares values and lengths. Otherwise only the shape and the words of errors are compared.
    """

    def __init__(self, node_names: list[str], *, strict: bool) -> None:
        self._strict = strict
        self._names = {f"node{number}@127.0.0.1": name for number, name in enumerate(node_names, start=1)}
        self._revs: dict[str, str] = {}
        self._suffixes: dict[str, str] = {}

    def statuses(self, recorded: int | None) -> tuple[int | None, ...]:
        """Return the statuses that are as good as the recorded one: a busy cluster answers before its majority has."""
        return (201, 202) if recorded == 201 and not self._strict else (recorded,)

    def translate(self, text: str) -> str:
        """Return recorded text with the names that the same things have here."""
        text = NODE.sub(lambda match: self._names[match[0]], text)
        text = REV.sub(lambda match: self._revs.get(match[0], match[0]), text)
        return SUFFIX.sub(lambda match: self._suffixes.get(match[0], match[0]), text)

    def translate_body(self, body: Any) -> Any:
        """Return a recorded body with the revisions that the same documents have here."""
        if body is None or isinstance(body, str):
            return body
        # `_revisions` gives the hashes of revisions without their numbers.
        hashes = {recorded.partition("-")[2]: answered.partition("-")[2] for recorded, answered in self._revs.items()}
        text = HASH.sub(lambda match: hashes.get(match[0], match[0]), self.translate(json.dumps(body)))
        return json.loads(text)

    def differences(self, recorded: Any, answered: Any, at: str = "body", key: str = "") -> Iterator[str]:
        """Yield what is not as recorded."""
        if type(recorded) is not type(answered):
            yield f"{at}: recorded {recorded!r:.100}, answered {answered!r:.100}"
        elif key in BY_TYPE:
            if isinstance(recorded, dict) and key == "sizes" and set(recorded) != set(answered):
                yield f"{at}: recorded {sorted(recorded)}, answered {sorted(answered)}"
        elif key == "shard_suffix":
            self._suffixes[_text(recorded)] = _text(answered)
        elif isinstance(recorded, dict):
            yield from self._objects(recorded, answered, at)
        elif isinstance(recorded, list):
            yield from self._lists(recorded, answered, at, key)
        elif isinstance(recorded, str):
            yield from self._strings(recorded, answered, at, key)
        elif recorded != answered and self._strict:
            yield f"{at}: recorded {recorded!r}, answered {answered!r}"

    def _objects(self, recorded: dict[str, Any], answered: dict[str, Any], at: str) -> Iterator[str]:
        # Whether a shard map has no properties or empty ones depends on how the database was made.
        recorded = {self.translate(each): value for each, value in recorded.items() if (each, value) != ("props", {})}
        answered = {each: value for each, value in answered.items() if (each, value) != ("props", {})}
        if set(recorded) != set(answered):
            yield f"{at}: recorded the keys {sorted(recorded)}, answered {sorted(answered)}"
            return
        for each, value in recorded.items():
            yield from self.differences(value, answered[each], f"{at}.{each}", each)

    def _lists(self, recorded: list[Any], answered: list[Any], at: str, key: str) -> Iterator[str]:
        if self._strict and len(recorded) != len(answered):
            yield f"{at}: recorded {len(recorded)} entries, answered {len(answered)}"
        if key in ANY_ORDER:
            recorded, answered = sorted(recorded, key=_without_chance), sorted(answered, key=_without_chance)
        for index, (one, other) in enumerate(zip(recorded, answered, strict=False)):
            yield from self.differences(one, other, f"{at}[{index}]", key)

    def _strings(self, recorded: str, answered: str, at: str, key: str) -> Iterator[str]:
        if REV.fullmatch(recorded):
            self._revs[recorded] = answered
            # A database made again under its name has a shard map document of a later generation.
            alike = bool(REV.fullmatch(answered))
            if self._strict:
                alike = alike and _generation(recorded) == _generation(answered)
        elif pattern := next((each for each in CHANCE if each.fullmatch(recorded)), None):
            alike = bool(pattern.fullmatch(answered))
        elif recorded.startswith('{"'):
            # A continuous feed: a line for each row.
            yield from self.differences(_rows(recorded), _rows(answered), at)
            return
        elif self._strict or key in ("error", "reason"):
            alike = self.translate(recorded) == answered
        else:
            return
        if not alike:
            yield f"{at}: recorded {recorded!r}, answered {answered!r}"


def _text(codes: list[int]) -> str:
    return bytes(codes).decode().removeprefix(".")


def _rows(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line]


def _without_chance(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return CHANCE[0].sub("", text)


def _generation(revision: str) -> str:
    return revision.partition("-")[0]
