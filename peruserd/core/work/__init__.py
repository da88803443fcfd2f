"""The work of one listener: which document is next, what follows from an outcome, and the state of it all."""
