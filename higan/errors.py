"""Errors that tell a user what was found, what was expected and what to do next."""

from __future__ import annotations


class HiganError(Exception):
    """Bad input: its message is one line that names what was found, what was expected and what to do.

    >>> higan.load_predictor("room")
    Traceback (most recent call last):
    higan.errors.HiganError: unknown predictor 'room'; known: rooms, scene, ...
    """


class CheckpointError(HiganError):
    """A weight file that cannot be read, is not of a supported family, or holds unusable numbers.

    >>> higan.load_generator("README.md")
    Traceback (most recent call last):
    higan.errors.CheckpointError: README.md: ...
    """
