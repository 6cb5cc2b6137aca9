"""How the core reaches PostgreSQL: addresses, the embedded server, migrations, named statements."""
