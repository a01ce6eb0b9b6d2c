"""The file methods of a connection; checks of names from a host; private directories."""
