"""A Docker Swarm as a backend: several machines, each with its own engine, and one bot on one of them."""
