"""Targets of downloads: names, partial files, journals, streams. Nothing here knows sockets or engines: it sees
memoryviews."""
