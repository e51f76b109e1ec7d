"""Headrace: one namespace and a page cache between your stores and your compute."""
