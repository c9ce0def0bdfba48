"""python -m tinyml."""

import sys

from .cli import main

sys.exit(main())
