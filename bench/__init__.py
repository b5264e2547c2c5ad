"""Measurements of the service beside the raw engine and the docker SDK: ``python -m bench``."""
