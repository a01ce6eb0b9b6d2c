"""The real qsub, qstat and qdel that Slurm plays Torque with (slurm-wlm-torque), for one user."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import parts


def prologue(directory: Path) -> str:
    """What a user has in the profile: the unpacked wrappers, first on the path."""
    parts.require("torque")
    top = directory / "torque"
    if not top.exists():
        shutil.copytree(parts.UNPACKED / "torque" / "usr", top, symlinks=True)
        for name in ("sbatch", "salloc", "srun"):  # qsub looks for them beside itself
            (top / "bin" / name).symlink_to(str(shutil.which(name)))
    modules = {str(path.parent) for path in top.rglob("*.pm") if path.parent.name != "Slurm"}
    libraries = {str(path.parent) for path in top.rglob("libslurm.so.*")}
    return (
        f"PATH={top}/bin:$PATH; PERL5LIB={':'.join(sorted(modules))}; "
        f"LD_LIBRARY_PATH={':'.join(libraries)}; export PATH PERL5LIB LD_LIBRARY_PATH"
    )
