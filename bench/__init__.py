"""The benchmark: what a request and a token cost here, side by side with other relays."""
