"""Where the bytes of a response go."""
