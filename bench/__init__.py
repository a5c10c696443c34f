"""Isoloss: how many times fewer tokens than tuned AdamW does an optimizer need to reach the same loss?"""

__version__ = "0.1.0"
