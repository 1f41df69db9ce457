"""`python -m tools.fuzz`: sends generated and mutated input to the service and reports what it cannot handle."""
