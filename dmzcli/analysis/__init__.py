"""What bits mean."""
