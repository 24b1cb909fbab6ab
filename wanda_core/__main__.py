"""`python -m wanda_core`: the command line."""

import sys

try:
    from wanda_core.cli.commands import main

    main()
except KeyboardInterrupt:  # before or after a command; the commands handle their own
    print("cancelled", file=sys.stderr)
    sys.exit(130)
