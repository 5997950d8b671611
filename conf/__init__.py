"""What an operator can change: the environment's variables, the model catalogue, the log's shape."""
