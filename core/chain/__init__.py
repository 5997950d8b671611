"""The Plumise chain: the payment contract, contract wallets, and what happens there."""
