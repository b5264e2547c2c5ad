"""The parts of the lifecycle operations that are a subject of their own."""
