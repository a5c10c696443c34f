"""The arithmetic of training and of finished checkpoints."""
