"""Many downloads at once: jobs, the thread that runs them, and how files are finished."""

from getm.batch.faces import aevents, events
from getm.batch.job import Call
from getm.batch.options import DEFAULT_JOBS, BatchOptions
from getm.batch.runner import Batch, Post

__all__ = ["DEFAULT_JOBS", "Batch", "BatchOptions", "Call", "Post", "aevents", "events"]
