"""Engines: each maps a function over jobs on some set of machines, and yields what is done as it is done."""
