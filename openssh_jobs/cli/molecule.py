"""What the demo computes: the nuclear repulsion energy of ethanol, slowly enough to watch.

The geometry is the staggered, trans form with bond lengths and angles near the measured ones
(C-C 1.512, C-O 1.431, O-H 0.971 Å).  The script needs a POSIX sh and awk.
"""

from __future__ import annotations

import math

NAME = "ethanol"
INPUT = "ethanol.xyz"
SCRIPT = "repulsion.sh"
RESULT = "energy.txt"

XYZ = """\
9
ethanol, staggered and trans; angstrom
C    0.0000   0.0000   0.0000
C    1.5120   0.0000   0.0000
O    1.9494   1.3625   0.0000
H    2.9196   1.3218   0.0000
H    1.8993  -0.5112   0.8913
H    1.8993  -0.5112  -0.8913
H   -0.3785  -1.0232   0.0000
H   -0.3821   0.5110  -0.8850
H   -0.3821   0.5110   0.8850
"""

BATCH_SCRIPT = r"""#!/bin/sh
# Nuclear repulsion energy of ethanol.xyz: the sum of Za*Zb/Rab over all pairs, in hartree.
LC_ALL=C
export LC_ALL
atoms=$(awk 'NR == 1 { print $1 + 0 }' ethanol.xyz)
atom=1
sum=0
while [ "$atom" -le "$atoms" ]; do
    sum=$(awk -v atom="$atom" -v sum="$sum" '
        BEGIN { z["H"] = 1; z["C"] = 6; z["O"] = 8; bohr = 0.529177210903 }
        NR < 3 { next }
        { n = NR - 2; charge[n] = z[$1]; x[n] = $2; y[n] = $3; w[n] = $4 }
        n == atom { exit }
        END {
            for (i = 1; i < atom; i++) {
                r = sqrt((x[i] - x[atom]) ^ 2 + (y[i] - y[atom]) ^ 2 + (w[i] - w[atom]) ^ 2)
                sum += charge[i] * charge[atom] * bohr / r
            }
            printf "%.12f", sum
        }' ethanol.xyz) || exit 1
    echo "atom $atom of $atoms: $sum hartree so far"
    atom=$((atom + 1))
    sleep 0.4 2>/dev/null || sleep 1
done
echo "$sum" >energy.txt
echo "written to energy.txt"
"""

ATOMS = int(XYZ.split()[0])

_CHARGE = {"H": 1, "C": 6, "O": 8}
_BOHR = 0.529177210903  # Å, CODATA 2018


def energy() -> float:
    """The same energy computed here, in hartree."""
    atoms = []
    for line in XYZ.splitlines()[2:]:
        symbol, *place = line.split()
        atoms.append((_CHARGE[symbol], [float(number) / _BOHR for number in place]))
    return math.fsum(
        charge * other / math.dist(place, its)
        for at, (charge, place) in enumerate(atoms)
        for other, its in atoms[:at]
    )
