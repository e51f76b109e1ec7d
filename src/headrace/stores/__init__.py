"""Everything that yields bytes: the Store contract, one file per kind of store, small wrappers."""
