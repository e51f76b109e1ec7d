"""Rules over paths and callers, decided without IO."""
