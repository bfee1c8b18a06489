"""``python -m vartutor`` is the ``vartutor`` command."""

from vartutor.cli import main

raise SystemExit(main())
