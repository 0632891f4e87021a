"""Flows: the order of the stages."""
