"""The configuration as values: its models, and how YAML becomes either settings or problems."""
