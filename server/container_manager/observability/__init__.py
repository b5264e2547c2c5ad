"""What the service tells of itself: each call in the log, in metrics and in traces.

A call costs its caller two time stamps and a tuple: ``accounting`` does the rest when its answer is on its way, and
``span_exporter`` encodes and sends spans in a thread of its own. ``observation`` puts all of it together.
"""
