"""From the hub to windows of tokens."""
