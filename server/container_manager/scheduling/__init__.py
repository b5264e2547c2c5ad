"""When work runs: one operation at a time for each bot, bounded worker pools, bounded streams."""
