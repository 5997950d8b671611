"""The hot path: bytes from a node to text pieces, without a detour."""
