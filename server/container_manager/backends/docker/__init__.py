"""One Docker Engine. :mod:`container_manager.backends.docker.backend` is what the service is started with."""
