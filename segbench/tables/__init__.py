"""Stored rows to the tables that reports and the gate read."""
