"""The caller's side of engines: starting, watching and stopping them, and the connections that lead to them."""
