"""`python -m trainyard_submitter`: the `trainyard` command."""

import sys

from trainyard_submitter.cli import main

if __name__ == "__main__":
    sys.exit(main())
