"""Mathematics that several entries share: one implementation each, batched over stacks of same-shape matrices."""
