"""Where reports go: files, and whatever Apprise can reach."""
