"""Commands on a host: ``run`` and ``popen``, the held control shell, quoting."""
