"""Logs, metrics and traces of the calls that the service serves.

``telemetry`` sets them up as configured; ``accounting`` records each call after its answer is sent.
"""
