"""The default configuration, explained, and as a commented file. Both are made from the types that decode it."""

import textwrap

import msgspec
from msgspec import inspect

from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import PLAIN_TEXT, allowed_values

_WIDTH = 100
_HEADER = """\
# peruserd's configuration. Every key is shown with its default; a key left out has it.
# Each can be overridden by the environment: PERUSERD_<TABLE>_<KEY>, as in PERUSERD_COUCHDB_URL."""


class Explained(msgspec.Struct, frozen=True):
    """One key: its default, or None if it has none, and its description."""

    default: object
    description: str


def explained() -> dict[str, dict[str, Explained]]:
    """Return every key by its table and name."""
    return {
        table.name: {
            key.name: Explained(key.default, _explanation(key.type)) for key in msgspec.structs.fields(table.type)
        }
        for table in msgspec.structs.fields(Config)
    }


def sample() -> str:
    """Return a TOML file with every table and key, with comments. A key without a default is commented out."""
    parts = [_HEADER]
    keys = explained()
    for table in msgspec.structs.fields(Config):
        parts += ["", *_comment(table.type.__doc__.strip()), f"[{table.name}]"]
        for name, key in keys[table.name].items():
            parts += _comment(key.description)
            parts.append(f"# {name} =" if key.default is None else f"{name} = {toml(key.default)}")
    return "\n".join(parts) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _explanation(kind: object) -> str:
    info = inspect.type_info(kind)
    schema = info.extra_json_schema if isinstance(info, inspect.Metadata) else None
    description = str((schema or {}).get("description", ""))
    allowed = allowed_values(kind)
    return description if allowed == PLAIN_TEXT else f"{description} Allowed: {allowed}."


def toml(value: object) -> str:
    """Return a default as it stands in the file."""
    # For these texts, numbers and booleans, JSON and TOML have the same syntax.
    return msgspec.json.encode(value).decode()
