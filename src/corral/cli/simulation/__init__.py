"""What `corral simulate` reads and shows; the commands themselves are in `corral.cli.simulate`."""
