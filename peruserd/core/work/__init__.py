"""The work of one listener: the order of documents, the consequences of an outcome, and the listener's state."""
