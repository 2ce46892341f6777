"""What the programs share: how they start and fail, and what a config names."""
