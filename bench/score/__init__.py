"""From records to speedups: pure functions, no torch."""
