"""What a pull request of an optimizer holds, and whether it stands: read as data, nothing of it is ever run."""
