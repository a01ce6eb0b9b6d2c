"""Ways to a host under one interface (``base``), and the sessions that are opened over them."""
