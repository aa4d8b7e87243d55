"""Measurements against other tools. They start servers of their own and need nothing from the network."""
