"""`python -m albert_np` is `albert-np`."""

import sys

from albert_np.cli import main

sys.exit(main())
