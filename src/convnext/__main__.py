"""Run the command as a module: python -m convnext."""

from convnext.cli.main import main

raise SystemExit(main())
