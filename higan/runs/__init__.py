"""A run in its folder: settings, streamed arrays, what is done, resume; who may write there."""
