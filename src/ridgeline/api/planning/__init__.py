"""From a question to a deployment and its launch files."""
