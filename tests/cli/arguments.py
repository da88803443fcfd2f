"""Arguments with which each command can be run: without a server, with one, and without a daemon."""

WITHOUT_SERVER = {
    "run": ["--help"],
    "config": [],
    "name": ["ann"],
    "unit": [],
    "manual": [],
    "completion": ["bash"],
    "monitoring export": ["--help"],
    "demo": ["--help"],
    "simcluster": ["--nodes", "1", "--port", "0"],
}
WITH_SERVER = {
    "check": [],
    "owner": ["waiting000000", "--no-wait"],
    "plan": ["--no-wait"],
    "wait": ["waiting000000", "--timeout", "0"],
    "audit": [],
    "migrate": [],
    "deletions list": [],
    "templates status": [],
    "templates rollout": ["--dry-run"],
}
WITHOUT_DAEMON = {
    **{f"deletions {each}": ["ann", "--json"] for each in ("cancel", "drop-now", "release", "pause")},
    "deletions resume": ["--json"],
    "quarantine list": ["--json"],
    "quarantine show": ["--json"],
    "quarantine retry": ["--all", "--json"],
    "quarantine forget": ["ann", "--json"],
    "drain": ["--help"],
    "reload": ["--help"],
    "status": ["--help"],
    "listeners": ["--help"],
    "restart-listener": ["--help"],
}
ARGUMENTS = {**WITHOUT_SERVER, **WITH_SERVER, **WITHOUT_DAEMON}
