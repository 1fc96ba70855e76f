"""The `bilten` command. Thin: parse, call the domain, print its report."""
