"""Reads the part of a container's log that a caller asks for, across restarts of the container."""
