"""Getting the probe into a training process."""
