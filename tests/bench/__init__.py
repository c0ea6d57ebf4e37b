"""What the worker takes for itself, beside the stock service where there is one."""
