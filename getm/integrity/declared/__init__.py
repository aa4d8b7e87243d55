"""What servers declare about their bytes, a module a vendor."""
