"""Implementations of the interfaces in app.accounts."""
