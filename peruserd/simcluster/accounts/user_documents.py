"""User documents: the rules of the server, and the key that is derived from a password. Pure.

A real server derives keys with hundreds of thousands of rounds. Ten are enough to simulate the shape of a document.
"""

from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import Any, Final

import msgspec

from peruserd.core.common.names import USER_DOCUMENT_PREFIX, user_name
from peruserd.simcluster.model import errors, ids

ITERATIONS: Final = 10
_OF_PASSWORDS: Final = frozenset(
    {"derived_key", "iterations", "password", "password_scheme", "password_sha", "pbkdf2_prf", "salt"}
)


class Writer(msgspec.Struct, frozen=True):
    """The writer or reader of a user document: a name, None for nobody, and whether it is an admin of the database."""

    name: str | None
    is_server_admin: bool
    is_admin: bool

    def owns(self, document_id: str) -> bool:
        """Say whether a document is this user's own, byte by byte."""
        return self.name is not None and user_name(document_id) == self.name


def require_writer(document_id: str, writer: Writer) -> None:
    """Refuse a user who writes the document of another user. A request without credentials passes, to sign up.

    The rule holds for every kind of document, local ones too (`couch_users_db:before_doc_update`).
    """
    if not (writer.is_admin or writer.name is None or writer.owns(document_id)):
        raise errors.no_document()


def require_reader(document_id: str, writer: Writer) -> None:
    """Refuse everybody but admins and the document's own user (`couch_users_db:after_doc_read`)."""
    if writer.is_admin:
        return
    if document_id.startswith("_design/"):
        raise errors.forbidden("Only administrators can view design docs in the users database.")
    if not writer.owns(document_id):
        raise errors.no_document()


def with_derived_key(body: dict[str, Any], salt: str) -> dict[str, Any]:
    """Return the body of a document as it is stored: a password replaced by a key derived from it and `salt`."""
    password = body.get("password")
    if password is None:
        return body
    if not isinstance(password, str):
        raise errors.forbidden(f"Password value of '{msgspec.json.encode(password).decode()}' is invalid.")
    others = {key: value for key, value in body.items() if key not in _OF_PASSWORDS}
    return {
        "password_scheme": "pbkdf2",
        "pbkdf2_prf": "sha256",
        "salt": salt,
        "iterations": ITERATIONS,
        "derived_key": derive(password, salt, ITERATIONS),
        **others,
    }


def validate(document_id: str, body: dict[str, Any] | None, before: dict[str, Any] | None, writer: Writer) -> None:
    """Refuse a write that the design document of the database forbids. `body` replaces `before`; None deletes it.

    The function that CouchDB runs sees ids and names as they are shown. It cannot read the document of another user,
    and then the server's process dies on the request.
    """
    if before is not None and not (writer.is_admin or writer.owns(document_id)):
        raise errors.crash("function_clause")
    name = None if writer.name is None else ids.shown(writer.name)
    if body is None:
        _validate_deletion(before, name, writer)
        return
    _validate_shape(ids.shown(document_id), body)
    if before is not None and before.get("name") != body["name"]:
        raise errors.forbidden("Usernames can not be changed.")
    if not writer.is_admin:
        _validate_roles(body["roles"], before, own=body["name"] == name)
    if any(role.startswith("_") and role != "_metrics" for role in body["roles"]):
        raise errors.forbidden("No system roles (starting with underscore) in users db.")


def _validate_deletion(before: dict[str, Any] | None, name: str | None, writer: Writer) -> None:
    if writer.is_server_admin:
        return
    if before is None:
        # The function looks into the old document without asking whether there is one.
        raise errors.RefusalError(500, "TypeError", "{[]}")
    if before.get("name") != name:
        raise errors.forbidden("Only admins may delete other user docs.")


def _validate_shape(shown_id: str, body: dict[str, Any]) -> None:
    if body.get("type") != "user":
        raise errors.forbidden("doc.type must be user")
    if not body.get("name"):
        raise errors.forbidden("doc.name is required")
    roles = body.get("roles")
    if not roles and not isinstance(roles, list):
        raise errors.forbidden("doc.roles must exist")
    if not isinstance(roles, list):
        raise errors.forbidden("doc.roles must be an array")
    if not all(isinstance(role, str) for role in roles):
        raise errors.forbidden("doc.roles can only contain strings")
    if shown_id != f"{USER_DOCUMENT_PREFIX}{body['name']}":
        raise errors.forbidden(f"Doc ID must be of the form {USER_DOCUMENT_PREFIX}name")


def _validate_roles(roles: list[str], before: dict[str, Any] | None, *, own: bool) -> None:
    if before is None:
        if roles:
            raise errors.forbidden("Only _admin may set roles")
        return
    if not own:
        raise errors.forbidden("You may only update your own user document.")
    if sorted(before.get("roles") or []) != sorted(roles):
        raise errors.forbidden("Only _admin may edit roles")


def derive(password: str, salt: str, iterations: int) -> str:
    """Return the key derived from a password, in hexadecimal."""
    return pbkdf2_hmac("sha256", password.encode(errors="surrogateescape"), salt.encode(), iterations).hex()


def matches(body: dict[str, Any], password: str) -> bool:
    """Say whether a stored user document accepts the password."""
    salt, iterations, key = body.get("salt"), body.get("iterations"), body.get("derived_key")
    if not (isinstance(salt, str) and isinstance(iterations, int) and isinstance(key, str)):
        return False
    return compare_digest(derive(password, salt, iterations), key)
