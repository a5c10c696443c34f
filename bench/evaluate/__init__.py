"""Losses and downstream tasks, by the harness, the same for everyone."""
