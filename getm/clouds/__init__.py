"""Clients and credentials of clouds, by their vendors' libraries, for names and for destinations."""
