"""The file calls of a connection, and what guards them: names from a host, private directories."""
