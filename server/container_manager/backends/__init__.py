"""What runs the containers: one package for each backend, each behind :mod:`container_manager.backend`."""
