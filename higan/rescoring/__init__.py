"""Step 3: how far every score moves along a boundary, over all layers and at each one alone."""
