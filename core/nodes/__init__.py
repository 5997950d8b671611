"""The nodes: where they come from, how they are, which one is next."""
