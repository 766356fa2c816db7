"""How much of the labels a representation makes readable."""
