"""Filling gaps that look like real ones: probtensor beside packages and plain scripts, on data that anyone can install.

`python -m gapfill` in the folder above measures what is missing and writes a section of RESULTS.md for each data set.
"""
