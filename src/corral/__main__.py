"""`python -m corral`."""

from corral.app.main import main

main()
