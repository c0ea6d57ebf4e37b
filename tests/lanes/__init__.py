"""Runs all tests in a few pytest processes side by side: most of them wait most of the time."""
