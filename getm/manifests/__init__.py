"""Lists of downloads in every form that people have them: read and checked as a whole before the first request."""
