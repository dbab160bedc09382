"""Images: made from root file systems, build contexts and archives, and kept to a number."""
