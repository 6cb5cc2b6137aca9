"""The schema as data: migrations, functions, views and named queries, shipped with the packages."""
