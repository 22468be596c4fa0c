"""The applications that the contenders serve."""
