"""`python -m replyio`: the command `replyio`."""

from __future__ import annotations

import sys

from replyio.cli import main

if __name__ == "__main__":
    sys.exit(main())
