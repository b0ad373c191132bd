"""__main__: `python -m stillwatch`."""

from stillwatch.cli.main import main

if __name__ == "__main__":
    main()
