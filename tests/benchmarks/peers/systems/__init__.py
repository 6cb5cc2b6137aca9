"""One module per system, each a ``System``; loaded only in children, in the environment that has its packages."""
