"""`python -m teji` is `teji`."""

from teji.cli import main

if __name__ == "__main__":
    main()
