"""
Chaos: real processes with real money, killed at every step, on a chain and a Redis that fail.

`python -m tests.chaos --help` tells how to run it; docs/payment.md tells what it shows.
"""
