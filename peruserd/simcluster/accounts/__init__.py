"""The users of a cluster: their credentials, sessions and rights, locked accounts, and the rules for user documents."""
