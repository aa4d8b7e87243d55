"""Serves objects to programs that only know URLs: `getm run` and `getm serve`."""
