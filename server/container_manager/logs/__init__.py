"""Reading containers' logs: the part of a log that a caller wants, over restarts of the container."""
