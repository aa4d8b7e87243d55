"""The caller's side of engines: starting, watching and stopping them, and the channels that lead to them."""

from getm.client.channel import Channel
from getm.client.pool import EnginePool

__all__ = ["Channel", "EnginePool"]
