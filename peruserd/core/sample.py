"""The default configuration as a commented file, made from the types that decode it."""

import textwrap

import msgspec
from msgspec import inspect

from peruserd.core.config import Config
from peruserd.core.decoding import PLAIN_TEXT, allowed_values

_WIDTH = 100
_HEADER = """\
# peruserd's configuration. Every key is shown with its default; a key left out has it.
# Each can be overridden by the environment: PERUSERD_<TABLE>_<KEY>, as in PERUSERD_COUCHDB_URL."""


def sample() -> str:
    """Return a TOML file with every table and key, its default (commented out where it has none) and a comment."""
    parts = [_HEADER]
    for table in msgspec.structs.fields(Config):
        parts += ["", *_comment(table.type.__doc__.strip()), f"[{table.name}]"]
        for key in msgspec.structs.fields(table.type):
            parts += _comment(_explanation(key.type))
            parts.append(f"# {key.name} =" if key.default is None else f"{key.name} = {_toml(key.default)}")
    return "\n".join(parts) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _explanation(kind: object) -> str:
    info = inspect.type_info(kind)
    schema = info.extra_json_schema if isinstance(info, inspect.Metadata) else None
    description = str((schema or {}).get("description", ""))
    allowed = allowed_values(kind)
    return description if allowed == PLAIN_TEXT else f"{description} Allowed: {allowed}."


def _toml(value: object) -> str:
    # JSON's way to write text, numbers and booleans is TOML's for these.
    return msgspec.json.encode(value).decode()
