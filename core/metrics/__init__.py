"""Tokens, counted."""
