"""Where the service listens: unix sockets and TCP ports, and who may connect."""
