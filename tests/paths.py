"""Where this checkout lies, and what the tests read of it."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "openssh_jobs"
DATA = CHECKOUT / "tests" / "data"
