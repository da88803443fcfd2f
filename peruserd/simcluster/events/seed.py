"""The content of a cluster before its first request, and users that are written without requests."""

from typing import Any, Final

from peruserd.core.common.names import database_name, user_document_id
from peruserd.simcluster.accounts import user_documents
from peruserd.simcluster.model import documents
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.options import AUTH_DATABASE

DESIGN_DOCUMENT: Final = "_design/_auth"


def make_auth_database(model: ClusterModel) -> None:
    """Create the authentication database of a fresh cluster. All nodes must be up."""
    node = model.nodes[0]
    model.create_database(node, AUTH_DATABASE, q=model.options.q, n=model.options.n)
    add_design_document(model, node)


def add_design_document(model: ClusterModel, at: Node) -> None:
    """Write the design document of the server into the authentication database."""
    body = {"language": "javascript", "validate_doc_update": "function(newDoc, oldDoc, userCtx, secObj) {}"}
    documents.write(model, at, AUTH_DATABASE, DESIGN_DOCUMENT, None, body)


def open_users(model: ClusterModel) -> None:
    """Let everybody sign up."""
    for node in model.nodes:
        node.config["couchdb"]["users_db_security_editable"] = "true"
    security = {"admins": {"roles": ["_admin"]}, "members": {"names": [], "roles": []}}
    documents.write_security(model, model.live_member(), AUTH_DATABASE, security)


def add_user(model: ClusterModel, at: Node, name: str, password: str) -> None:
    """Write one user document."""
    document_id = user_document_id(name)
    body: dict[str, Any] = {"name": name, "type": "user", "roles": [], "password": password}
    documents.write(
        model, at, AUTH_DATABASE, document_id, None, user_documents.with_derived_key(body, model.fresh_uuid())
    )


def add_users(model: ClusterModel, count: int, prefix: str, database_prefix: str | None) -> list[str]:
    """Write user documents through the first live node. Return the names, which are `prefix` and a number.

    With a `database_prefix` each user also gets a database, which is secured. All share one password, which is `x`.
    """
    at = model.live_member()
    names = [f"{prefix}{number:06d}" for number in range(count)]
    salt = model.fresh_uuid()
    secret = user_documents.with_derived_key({"name": "", "type": "user", "roles": [], "password": "x"}, salt)
    for name in names:
        documents.write(model, at, AUTH_DATABASE, user_document_id(name), None, {**secret, "name": name})
        if database_prefix is not None:
            database = database_name(database_prefix, name)
            model.create_database(at, database, q=1, n=model.options.n, props={})
            group = {"names": [name], "roles": ["_admin"]}
            documents.write_security(model, at, database, {"admins": group, "members": group})
    return names
