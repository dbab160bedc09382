"""The grounds that the tests stand on: an engine of their own, root file systems, before and after."""
