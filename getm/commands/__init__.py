"""What the command `getm` does: a module for each of its forms, and what they share. The entrance is `getm.cli`."""
