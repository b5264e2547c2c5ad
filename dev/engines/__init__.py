"""The engine tests on engines of several releases: `python -m dev.engines [NAME …]`, as root on Debian or Ubuntu."""
