"""What two kinds or more are built from."""
