"""Ways to a host under one interface: sessions on a master's socket, forwarded ports."""
