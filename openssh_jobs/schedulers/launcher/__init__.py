"""The launcher: a script around a job's script that writes the job's exit record.  Pure."""
