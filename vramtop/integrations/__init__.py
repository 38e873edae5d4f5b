"""What to add to trainings of other libraries, one module a library; each needs its library.

They tell the probe what is trained and name parts of it, and know nothing else of vramtop.
"""
