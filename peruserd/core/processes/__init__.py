"""Supervisor and listener: the life cycle of a child process, the messages, and the requested looks."""
