"""The pure part: every decision as a function of what is known. No I/O, no clock, no randomness of its own."""
