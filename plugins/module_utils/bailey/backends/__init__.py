"""Container engines behind one contract."""
