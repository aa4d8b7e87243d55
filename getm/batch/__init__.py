"""Many downloads at once: jobs, the thread that runs them, and how files are finished."""

from getm.batch.calls import jobs_of
from getm.batch.event_streams import aevents, events
from getm.batch.job import Job
from getm.batch.outcomes import aresult, aresults, result, results
from getm.batch.scheduler import Batch, Post
from getm.batch.settings import DEFAULT_JOBS, BatchOptions

__all__ = [
    "DEFAULT_JOBS",
    "Batch",
    "BatchOptions",
    "Job",
    "Post",
    "aevents",
    "aresult",
    "aresults",
    "events",
    "jobs_of",
    "result",
    "results",
]
