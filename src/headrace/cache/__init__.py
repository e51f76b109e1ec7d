"""Pages of object versions in memory and on disk."""
