"""Versioned up and down migrations of both databases, from the files under sql/."""
