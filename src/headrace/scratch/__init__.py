"""Writes that live on this node alone: laid over a mount's store, which never gets them."""
