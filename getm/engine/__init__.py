"""The engine: an event loop, in a process (or a thread) of its own, that fetches URLs into slots of shared memory.

The only home of aiohttp and uvloop. `getm.engine.main.serve` is its entrance; it is driven by messages only.
"""
