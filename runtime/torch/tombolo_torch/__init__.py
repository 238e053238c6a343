"""Runs the ranks of a Tombolo plan with PyTorch; docs/Torch.md says how it maps."""
