"""One file per file format: bytes to arrays, and lists to tables."""
