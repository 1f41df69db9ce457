"""Definitions of all operations, by resource. Both clients inherit them."""
