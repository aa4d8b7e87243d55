"""`python -m getm`: the command without its script."""

import sys

from getm.cli.main import main

sys.exit(main())
