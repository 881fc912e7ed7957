"""The definitions of this code location: a folder a pool, and what they share."""
