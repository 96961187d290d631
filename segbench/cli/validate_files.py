"""What the pre-commit hook calls: ``segbench check --validate`` of every file that it is given."""

from __future__ import annotations

import sys

from segbench.cli import main

if __name__ == "__main__":
    main(["check", *(word for path in sys.argv[1:] for word in ("--validate", path))])
