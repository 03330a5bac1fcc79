"""Job: runs pods until enough of them succeed, and counts each exactly once."""
