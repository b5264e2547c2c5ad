"""One module for the commands that share a form."""
