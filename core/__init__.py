"""The business of the gateway; it knows no web framework and no environment variable."""
