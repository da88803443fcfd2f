"""PouchDB Server, an independent server without shards: in memory, on a free port of the loopback address."""

import json
from pathlib import Path
from typing import Final, Self

import psutil

from tests.system.processes import Started
from tests.system.server import Account, Server
from tests.waiting import eventually

PROGRAM: Final = Path(__file__).parents[1] / "pouchdb" / "node_modules" / "pouchdb-server" / "bin" / "pouchdb-server"


class PouchDBServer:
    """A context manager that runs one, with all its files in an existing `directory`.

    Without an `admin` everybody is one. With an admin, only reading requests may come without credentials: this server
    ends with an error when an anonymous client creates a database.
    """

    def __init__(self, node: str, directory: Path, admin: Account | None) -> None:
        self._node = node
        self._directory = directory
        self._admin = admin
        self._log = directory / "log.txt"
        self._output = directory / "output.txt"

    def __enter__(self) -> Self:
        config = self._directory / "config.json"
        # Only in this file does 0 mean a free port: on the command line it counts as not given.
        settings = {
            "httpd": {"bind_address": "127.0.0.1", "port": 0},
            "admins": {} if self._admin is None else {self._admin[0]: self._admin[1]},
            "log": {"file": str(self._log), "level": "info"},
        }
        config.write_text(json.dumps(settings), encoding="utf-8")
        options = ["--in-memory", "-n", "--dir", str(self._directory), "--config", str(config)]
        self._started = Started([self._node, PROGRAM, *options], output=self._output, cwd=self._directory)
        try:
            self.port = eventually(self._listens, "PouchDB Server listens")
            self.url = f"http://127.0.0.1:{self.port}"
            self.server = Server(self.url, self._admin)
            eventually(self._answers, "PouchDB Server answers")
        except BaseException:
            self._started.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self._started.end()
        print(f"--- output of PouchDB Server: {self._output.read_text(errors='replace')}")

    def empty(self) -> None:
        """Delete every database; the server makes its own again at once."""
        for database in self.server.get("_all_dbs"):
            self.server.ask("DELETE", database).raise_for_status()
        eventually(self._answers, "PouchDB Server has made _users again")

    def requests(self) -> list[str]:
        """Return all requests that it has answered so far, as `GET /path`."""
        words = [line.split(" - - ")[-1].split() for line in self._log.read_text().splitlines() if " - - " in line]
        return [" ".join(each[:2]) for each in words]

    def _listens(self) -> int | None:
        assert self._started.exit_code is None, f"PouchDB Server ended: {self._output.read_text()}"
        for connection in psutil.Process(self._started.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        return None

    def _answers(self) -> bool:
        # The server knows its admins a moment after it begins to listen, and makes its databases then.
        return self.server.ask("GET", "_users").status_code == 200
