"""``botctl``: bots' containers from the command line, over the client alone."""
