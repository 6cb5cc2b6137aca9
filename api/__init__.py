"""The HTTP side: Flask over the actors and the core."""
