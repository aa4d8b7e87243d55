"""The checksums that response headers declare: a module for each vendor, and `discover`, which reads them all."""
