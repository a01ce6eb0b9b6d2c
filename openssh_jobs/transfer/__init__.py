"""``put`` and ``get``: files and trees, whole or absent, by sftp, scp, tar or rsync."""
