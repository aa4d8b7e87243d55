"""`python -m getm`: the command without its script."""

import sys

from getm.cli import main

sys.exit(main())
