"""The system's OpenSSH: its binaries, its sockets, its words.  Nothing above ssh is known here."""
