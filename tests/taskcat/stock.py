"""taskcat's own program, as `taskcat` starts it, after what keeps it from starting is put right.

Run by `make taskcat ENV=…` with taskcat's own Python; the arguments are taskcat's.
"""

from __future__ import annotations

import sys

import workarounds

if __name__ == "__main__":
    workarounds.read_annotations()
    from taskcat._cli import main

    sys.argv[0] = "taskcat"
    sys.exit(main())
