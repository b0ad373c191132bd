"""__main__: `python -m stillwatch`."""

import sys


def main() -> None:
    """Load the command line and run it; an interrupt that comes while it is loading ends it like any other."""
    try:
        from stillwatch.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("\nstillwatch: interrupted; nothing was written.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
