"""Supervisor and listener: the life of a child process, their messages, and the looks that are asked for."""
