"""The pure part: every decision as a function of known facts. No I/O, no clock, no randomness of its own."""
