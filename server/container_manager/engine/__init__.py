"""What is known of the Docker Engine: its API, its errors, and the shapes of what it takes and gives."""
