"""Hashing in threads while bytes arrive."""
