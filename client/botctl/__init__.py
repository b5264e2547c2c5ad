"""``botctl``, the command line for bots' containers. It uses only the client."""
