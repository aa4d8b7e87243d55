"""Checksums: as values, in sums files, as servers declare them, and computed while the bytes arrive.

Nothing here knows of sockets, event loops or shared memory: it sees header fields and memoryviews.
"""
