"""Nodes behind NAT: agents that connect to a gateway by WebSocket, and are asked over that socket by all of them."""
