"""The gRPC side: listeners, interceptors, the servicer and the server that holds them together."""
