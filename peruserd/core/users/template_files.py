"""Templates from the files of a directory. All mistakes are reported together, each with its file. Pure.

The layout:

- `documents/*.json`: one document per file, with its `_id`.
- `security.json`: roles for the admins and the members of every user database.
- `options.json`: options of every user database.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from peruserd.core.common.nesting import is_too_deep
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.users.templates import DESIGN_PREFIX, PLACEHOLDERS, Template, Templates, has_placeholder

DOCUMENTS: Final = "documents"
SECURITY: Final = "security.json"
OPTIONS: Final = "options.json"

MAX_DOCUMENTS: Final = 100
"""The limit of documents. One request writes all of them into a new database."""

MAX_BYTES: Final = 256 << 10
"""The limit of one file."""

MAX_BYTES_TOGETHER: Final = 1 << 20
"""The limit of all files. Each listener holds them in memory."""

# Ids up to this length fit into every page that shows them.
_MAX_ID_BYTES: Final = 512

# This bounds the size of a filled document: a user name has up to a hundred bytes, a database name two hundred.
_MAX_PLACEHOLDERS: Final = 1_000

# The functions that walk through a document are recursive.
_MAX_LEVELS: Final = 64

# Integers must fit into 64 bits, as the messages to listeners require. JavaScript is exact to 53 bits only.
_MIN_NUMBER: Final = -(1 << 63)
_MAX_NUMBER: Final = (1 << 64) - 1

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_OPTION_NAMES: Final = ("_revs_limit",)
_MAX_OPTION_VALUE: Final = (1 << 31) - 1

_SECTIONS: Final = ("admins", "members")


class _MistakeError(Exception):
    """One mistake in one file, in words."""


def read_templates(files: Mapping[str, bytes], where: str, *, partitioned: bool) -> Templates:
    """Return the templates in files. File names are relative to the directory `where`. Raises ConfigError.

    `partitioned` says that user databases are partitioned, so every id needs a partition.
    """
    reading = _Reading(where, partitioned=partitioned)
    for name in sorted(files):
        reading.take(name, files[name])
    return reading.templates(sum(map(len, files.values())))


class _Reading:
    """The files read so far, and the mistakes in them."""

    def __init__(self, where: str, *, partitioned: bool) -> None:
        self._where = where
        self._partitioned = partitioned
        self._problems: list[str] = []
        self._documents: dict[str, Template] = {}
        self._file_of: dict[str, str] = {}
        self._roles: dict[str, tuple[str, ...]] = {}
        self._options: dict[str, int] = {}

    def take(self, name: str, content: bytes) -> None:
        """Take in one file."""
        try:
            value = _decoded(content)
            if name == SECURITY:
                self._roles = _roles(value)
            elif name == OPTIONS:
                self._options = _options(value)
            else:
                self._take_document(name, value)
        except _MistakeError as mistake:
            self._problems.append(f"templates.directory: {self._where}/{name}: {mistake}")

    def templates(self, size: int) -> Templates:
        """Return the templates of all files; raises ConfigError."""
        if len(self._documents) > MAX_DOCUMENTS:
            self._problems.append(
                f"templates.directory: {self._where}/{DOCUMENTS}: found {len(self._documents)} documents, "
                f"allowed are {MAX_DOCUMENTS}"
            )
        if size > MAX_BYTES_TOGETHER:
            self._problems.append(
                f"templates.directory: {self._where}: found {size:,} bytes in all files, "
                f"allowed are {MAX_BYTES_TOGETHER:,}"
            )
        if self._problems:
            raise ConfigError(self._problems)
        documents = tuple(self._documents[each] for each in sorted(self._documents))
        return Templates(
            documents,
            self._roles.get("admins", ()),
            self._roles.get("members", ()),
            dict(sorted(self._options.items())),
        )

    def _take_document(self, name: str, value: dict[str, Any]) -> None:
        template = _template(value)
        if self._partitioned and not template.is_design:
            _check_partition(template.id)
        if (other := self._file_of.get(template.id)) is not None:
            raise _MistakeError(f"the _id {template.id!r} is that of {other} already")
        self._file_of[template.id] = name
        self._documents[template.id] = template


def _decoded(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise _MistakeError(f"found more than {MAX_BYTES:,} bytes, allowed are so many")
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = msgspec.json.decode(content)
        json.loads(content, object_pairs_hook=_without_twins)
    except UnicodeDecodeError as error:
        raise _MistakeError(f"not UTF-8: {error}") from error
    except msgspec.MsgspecError as error:
        raise _MistakeError(f"not valid JSON: {error}") from error
    except RecursionError as error:
        raise _too_deep() from error
    if not isinstance(value, dict):
        raise _MistakeError("found something else than an object, allowed is one object: {…}")
    if is_too_deep(value, _MAX_LEVELS):
        raise _too_deep()
    _check_numbers(value)
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise _MistakeError(f"the key {twin!r} stands twice in one object")
    return made


def _too_deep() -> _MistakeError:
    return _MistakeError(f"it is nested deeper than {_MAX_LEVELS} levels")


def _check_numbers(value: object) -> None:
    match value:
        case int() if not _MIN_NUMBER <= value <= _MAX_NUMBER:
            raise _MistakeError("it has a whole number that does not fit into 64 bits; write it as a text")
        case float() if abs(value) < sys.float_info.min and repr(value) != "0.0":
            # The document would come back different, as if its user had changed it.
            raise _MistakeError(f"it has the number {value!r}, which CouchDB keeps as 0.0; write 0")
        case dict():
            for each in value.values():
                _check_numbers(each)
        case list():
            for each in value:
                _check_numbers(each)


def _template(value: dict[str, Any]) -> Template:
    document_id = value.get("_id")
    if not isinstance(document_id, str) or not document_id:
        raise _MistakeError("it has no _id, which must be a text that is not empty")
    _check_id(document_id)
    body = {key: each for key, each in value.items() if key != "_id"}
    for key in body:
        if key == "_attachments":
            raise _MistakeError("_attachments: a template can have none")
        if key.startswith("_"):
            raise _MistakeError(f"{key}: a template cannot have it, because it is CouchDB's own")
    template = Template(document_id, body)
    _check_placeholders(template)
    return template


def _check_id(document_id: str) -> None:
    if has_placeholder(document_id):
        raise _MistakeError(f"_id: found {document_id!r}, and an _id is never filled in")
    if len(document_id.encode()) > _MAX_ID_BYTES:
        raise _MistakeError(f"_id: found more than {_MAX_ID_BYTES} bytes, allowed are so many")
    if document_id.startswith("_local/"):
        raise _MistakeError(f"_id: found {document_id!r}, and a local document can be no template")
    if document_id.startswith("_") and not (document_id.startswith(DESIGN_PREFIX) and document_id != DESIGN_PREFIX):
        raise _MistakeError(f"_id: found {document_id!r}, allowed with a _ at its beginning is _design/ and a name")


def _check_partition(document_id: str) -> None:
    partition, separator, rest = document_id.partition(":")
    if not (partition and separator and rest):
        raise _MistakeError(
            f"_id: found {document_id!r}, allowed with databases.partitioned is partition:name, or a design document"
        )


def _check_placeholders(template: Template) -> None:
    both = " and ".join(PLACEHOLDERS)
    if template.is_design and has_placeholder(template.body):
        raise _MistakeError(
            f"it is a design document with {both} in it, or one of them, and nothing is filled in there: its texts are "
            "source code, in which a user's name would be a program; write { user } with spaces where code needs it"
        )
    if _keys_have_placeholder(template.body):
        raise _MistakeError(f"a key has {both} in it, or one of them, and keys are never filled in")
    count = sum(msgspec.json.encode(template.body).count(each.encode()) for each in PLACEHOLDERS)
    if count > _MAX_PLACEHOLDERS:
        raise _MistakeError(f"found {count:,} placeholders, allowed are {_MAX_PLACEHOLDERS:,}")


def _keys_have_placeholder(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(has_placeholder, value)) or any(map(_keys_have_placeholder, value.values()))
    return isinstance(value, list) and any(map(_keys_have_placeholder, value))


def _roles(value: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the roles by section.

    Names are refused. If anybody can sign up, somebody could take a name that is still free and read every database.
    """
    if unknown := set(value).difference(_SECTIONS):
        raise _MistakeError(f"found {min(unknown)!r}, allowed are {' and '.join(_SECTIONS)}")
    return {section: _roles_of(section, content) for section, content in value.items()}


def _roles_of(section: str, content: object) -> tuple[str, ...]:
    if not isinstance(content, dict):
        raise _MistakeError(f'{section}: allowed is an object: {{"roles": ["…"]}}')
    if "names" in content:
        raise _MistakeError(
            f"{section}.names: names are not allowed, because somebody could sign up under one that is free and would "
            "have access to every database; give these people a role"
        )
    if unknown := set(content).difference(["roles"]):
        raise _MistakeError(f"{section}: found {min(unknown)!r}, allowed is roles")
    roles = content.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(each, str) and each for each in roles):
        raise _MistakeError(f"{section}.roles: allowed is a list of texts that are not empty")
    for each in roles:
        if each.startswith("_"):
            raise _MistakeError(f"{section}.roles: found {each!r}, and roles with a _ at their beginning are CouchDB's")
        if has_placeholder(each):
            raise _MistakeError(f"{section}.roles: found {each!r}, and roles are never filled in")
    return tuple(dict.fromkeys(roles))


def _options(value: dict[str, Any]) -> dict[str, int]:
    for name, number in value.items():
        if name not in _OPTION_NAMES:
            raise _MistakeError(f"found {name!r}, allowed is {' and '.join(_OPTION_NAMES)}")
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MAX_OPTION_VALUE:
            raise _MistakeError(f"{name}: found {number!r}, allowed is a whole number from 1 to {_MAX_OPTION_VALUE}")
    return value
