"""Models with a local term: it is collapsed into the noise, and every other term is fitted jointly under that noise."""
