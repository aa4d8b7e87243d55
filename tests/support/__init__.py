"""What several test modules and the benchmarks share: real servers, certificates, objects, leak counting."""
