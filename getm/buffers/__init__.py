"""Shared memory: one segment, its slots, who owns each slot, and the leases handed to the user."""

from getm.buffers.lease import LeaseRing
from getm.buffers.ledger import SlotLedger
from getm.buffers.segment import Segment, available_bytes

__all__ = ["LeaseRing", "Segment", "SlotLedger", "available_bytes"]
