"""The development set-up: engine, images, registry, stubs."""
