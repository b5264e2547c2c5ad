"""``python -m botctl``."""

from botctl.entry import main

main()
