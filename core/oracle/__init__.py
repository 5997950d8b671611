"""The Plumise Oracle: what it lists, what it tells, and the client for both."""
