"""Verbs and paths. What trains imports torch only when it trains."""
