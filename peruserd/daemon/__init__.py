"""The running instance: the supervisor, the HTTP page and systemd together."""
