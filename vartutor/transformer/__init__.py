"""The next-scale transformer: from the token maps so far to the next one."""
