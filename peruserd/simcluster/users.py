"""User documents: the rules a server holds them to, and what becomes of a password. Pure.

A real server derives keys with hundreds of thousands of rounds; here it is a few, since what is simulated is the shape
of the document and not its strength.
"""

from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import Any, Final

from peruserd.core.names import USER_DOCUMENT_PREFIX, user_name
from peruserd.simcluster import errors

ITERATIONS: Final = 10


def accept(document_id: str, body: dict[str, Any], salt: str) -> dict[str, Any]:
    """Return the body of a user document as it is stored, its password replaced by a derived key.

    `salt` is used where there is a password. Design documents pass as they are. Refuses what CouchDB forbids.
    """
    if document_id.startswith("_design/"):
        return body
    name = user_name(document_id)
    if name is None or body.get("name") != name:
        raise errors.forbidden(f"Doc ID must be of the form {USER_DOCUMENT_PREFIX}name")
    if body.get("type") != "user":
        raise errors.forbidden("doc.type must be user")
    roles = body.get("roles")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise errors.forbidden("doc.roles must be an array of strings")
    if any(role.startswith("_") for role in roles):
        raise errors.forbidden("Roles that begin with an underscore belong to the server.")
    password = body.get("password")
    if password is None:
        return body
    if not isinstance(password, str):
        raise errors.bad_request("Password must be a string.")
    others = {key: value for key, value in body.items() if key != "password"}
    return {
        "password_scheme": "pbkdf2",
        "pbkdf2_prf": "sha256",
        "salt": salt,
        "iterations": ITERATIONS,
        "derived_key": derive(password, salt, ITERATIONS),
        **others,
    }


def derive(password: str, salt: str, iterations: int) -> str:
    """Return the key derived from a password, in hexadecimal."""
    return pbkdf2_hmac("sha256", password.encode(), salt.encode(), iterations).hex()


def matches(body: dict[str, Any], password: str) -> bool:
    """Say whether a stored user document accepts the password."""
    salt, iterations, key = body.get("salt"), body.get("iterations"), body.get("derived_key")
    if not (isinstance(salt, str) and isinstance(iterations, int) and isinstance(key, str)):
        return False
    return compare_digest(derive(password, salt, iterations), key)
