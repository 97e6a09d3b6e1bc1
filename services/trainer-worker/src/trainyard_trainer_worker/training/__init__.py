"""What runs in the child process of an attempt: data, split, fit, evaluation, packing and the clean-process check."""
