"""`python -m tombola.cli`, where the script `tombola` is not on the path."""

import sys

from tombola.cli import main

if __name__ == "__main__":
    sys.exit(main())
