"""The configuration: its types, its decoding and checks, and its explanation."""
