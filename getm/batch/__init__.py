"""Many downloads at once: jobs, the thread that runs them, and how files are finished."""
