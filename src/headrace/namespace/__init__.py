"""The one tree over all stores: immutable mount tables, resolve, list, union."""
