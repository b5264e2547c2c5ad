"""Samples containers' resource use, and computes the figures of WatchStats and GetStats."""
