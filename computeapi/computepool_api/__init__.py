"""The alchemiscale compute API: ids, wire models and HTTP clients."""
