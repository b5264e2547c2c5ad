"""Sockets before gRPC or HTTP serves on them: who has a path, who may open it, whether a port is free."""
