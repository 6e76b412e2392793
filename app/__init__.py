"""Tuwen (图问): one OpenAI-compatible endpoint in front of the vision models of Chinese clouds."""

__version__ = "0.1.0"
