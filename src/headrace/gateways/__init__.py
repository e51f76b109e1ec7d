"""Protocols turned into namespace calls."""
