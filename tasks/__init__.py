"""Prefect tasks: one library call each, with retries, names and a small result."""
