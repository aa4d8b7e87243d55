"""What the command prints: progress, results, errors, logs."""
