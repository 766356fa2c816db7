"""The live page: bits that a person flips while looking at what they decode to, served to this machine alone."""
