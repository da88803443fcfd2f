"""A CouchDB-like server for tests: users sign up and leave, and tests see the result in their databases."""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

import requests

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.users.security import is_private

PREFIX: Final = "userdb-"

Account = tuple[str, str]
"""A name and its password."""


class Server:
    """The server at `url`, asked as its admin unless a request says otherwise."""

    def __init__(self, url: str, admin: Account | None, *, auth_db: str = "_users") -> None:
        self.url = url
        self.admin = admin
        self.auth_db = auth_db
        self._http = requests.Session()
        # Proxies and ~/.netrc are not for this machine.
        self._http.trust_env = False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(
        self, method: str, *segments: str, body: object = None, params: dict[str, str] | None = None
    ) -> requests.Response:
        """Make a request; each segment of the path is quoted."""
        url = "/".join([self.url, *(quote(segment, safe="") for segment in segments)])
        return self._http.request(method, url, json=body, params=params, auth=self.admin, timeout=30)

    def get(self, *segments: str, params: dict[str, str] | None = None) -> Any:
        """Return the document or object at a path."""
        return _checked(self.ask("GET", *segments, params=params)).json()

    def put(self, *segments: str, body: object = None) -> None:
        """Put a body at a path."""
        _checked(self.ask("PUT", *segments, body=body))

    def sign_up(self, names: Iterable[str]) -> None:
        """Make a user of each name, with the name as the password."""
        for name in names:
            body = {"name": name, "password": name, "roles": [], "type": "user"}
            self.put(self.auth_db, user_document_id(name), body=body)

    def remove(self, names: Iterable[str]) -> None:
        """Delete users."""
        for name in names:
            revision = self.get(self.auth_db, user_document_id(name))["_rev"]
            _checked(self.ask("DELETE", self.auth_db, user_document_id(name), params={"rev": revision}))

    def databases(self) -> set[str]:
        """Return the names of all user databases."""
        return {name for name in self.get("_all_dbs") if name.startswith(PREFIX)}

    def security(self, name: str) -> dict[str, Any]:
        """Return the security object of a user's database."""
        found: dict[str, Any] = self.get(database_name(PREFIX, name), "_security")
        return found

    def status_for(self, account: Account | None, owner: str) -> int:
        """Return the status that `account` (None: nobody) gets on reading the database of the user `owner`."""
        url = f"{self.url}/{database_name(PREFIX, owner)}/_all_docs"
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, auth=account, timeout=30).status_code

    def is_served(self, name: str) -> bool:
        """Say whether a user's database exists and is private."""
        answer = self.ask("GET", database_name(PREFIX, name), "_security")
        return answer.status_code == 200 and is_private(answer.json(), name)

    def unserved(self, names: Iterable[str]) -> list[str]:
        """Return the users who are not served."""
        return [name for name in names if not self.is_served(name)]


def _checked(answer: requests.Response) -> requests.Response:
    assert answer.ok, f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text}"
    return answer
