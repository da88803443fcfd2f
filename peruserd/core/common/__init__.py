"""Small things that every room uses: pauses, rates, decoders, names, and how text is shown."""
