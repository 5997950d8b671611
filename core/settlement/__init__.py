"""Settling: what Pro users owe becomes debits at the payment contract, each token once."""
