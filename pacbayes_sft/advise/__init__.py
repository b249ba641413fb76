"""Advice: the best difficulty for a budget, computed from short pilots and the shift term."""
