"""Containers' resource use: sampling, and figures between two samples."""
