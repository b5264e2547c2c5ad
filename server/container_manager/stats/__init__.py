"""Samples containers' resource use, and computes the figures of the stream WatchStats."""
