"""Stores of objects that downloads go to in place of files: S3, and what fsspec has a file system for. What is here
waits for a store, and is called in threads made for that."""
