"""HTTP as the engine speaks it: connections, requests, bodies, TLS. The only home of aiohttp."""
