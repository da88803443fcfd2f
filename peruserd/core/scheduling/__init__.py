"""Scheduling in one listener: which document is next, what follows from an outcome, and the listener's state."""
