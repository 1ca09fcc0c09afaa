"""Directions in a latent space: their files and lists, and the ways to find them."""
