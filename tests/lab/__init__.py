"""The lab: a real sshd, a bastion, an agent and a real Slurm, none of them the machine's own."""
