"""What `ablation` and `compare_losses` share: many runs in one folder, and tables."""
