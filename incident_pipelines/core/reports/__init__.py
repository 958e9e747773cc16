"""Reports about an incident: which are due, and what each says, in Markdown from templates that are data."""
