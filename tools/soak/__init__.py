"""Runs the service at a constant load for a long time and measures the growth of its memory."""
