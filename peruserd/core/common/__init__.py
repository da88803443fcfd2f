"""Small modules that every package uses: back-off, rates, decoders, names, and escaping of text."""
