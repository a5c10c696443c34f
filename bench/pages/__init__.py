"""The static site: pure functions from records to pages."""
