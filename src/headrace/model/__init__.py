"""Plain frozen values that every room speaks in. Imports nothing of the project."""
