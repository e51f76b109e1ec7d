"""Keeping two directories of the namespace alike: a pure plan, and the run that carries it out."""
