"""The nouns as data: what kinds there are, what their objects look like, and every pure thing done to an object."""
