"""The running instance: supervisor, HTTP and systemd, put together."""
