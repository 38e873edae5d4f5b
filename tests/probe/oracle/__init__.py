"""The oracle for the breakdown: torch.profiler's memory timeline of real trainings."""
