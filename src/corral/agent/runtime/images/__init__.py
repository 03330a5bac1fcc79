"""Images on this machine: the image `host`, and OCI images unpacked into layers for overlayfs."""
