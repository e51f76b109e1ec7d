"""Writes that are acknowledged by a durable journal here and brought to their store later."""
