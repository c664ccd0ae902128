"""Fixed functions of a mode's coordinates, whose weighted sums are a mode's functions."""
