"""The only package that knows FastAPI and wire JSON."""
