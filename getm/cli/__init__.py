"""The command `getm`: a module for each of its forms, and what they share. It starts in `getm.cli.main`."""
