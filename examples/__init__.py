"""Runnable examples: the demo that `make run` starts, and small clients of the gateway."""
