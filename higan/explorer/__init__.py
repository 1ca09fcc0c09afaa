"""The live page: one slider per direction, for people who look at a generator on this machine."""
