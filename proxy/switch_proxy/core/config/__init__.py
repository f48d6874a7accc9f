"""The configuration as values: its models, the rules for single values, and how YAML becomes either settings or problems."""
