"""What was used, counted once."""
