"""Game days: real faults in the running stack, closed by the system itself, and compared with the ground truth."""
