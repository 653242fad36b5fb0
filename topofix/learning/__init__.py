"""PyTorch: networks, losses, training, inference and per-image refinement; no files of images."""
