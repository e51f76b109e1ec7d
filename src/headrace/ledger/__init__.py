"""Durable control state in SQL; nobody else speaks SQL."""
