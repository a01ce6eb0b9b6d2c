"""What is done on a host over a master: short calls, commands, files."""
