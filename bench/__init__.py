"""Measurements of the service beside the raw engine and the docker SDK: ``python -m bench``."""

import os

# At INFO gRPC reports that a service went away, as each does that is stopped.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
