"""Random objects, modes and faults, every byte compared: `python -m tests.chaos --minutes 5 --seed 1`."""
